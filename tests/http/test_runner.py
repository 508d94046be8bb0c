"""What every door of the daemon has in common."""

import logging

import anyio
import pytest
from aiohttp import web

from tidelog.engine.serving import running


@pytest.mark.parametrize(
    "sent",
    [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer planted\x01\r\n\r\n"],
    ids=["no HTTP", "a credential with a control character"],
)
async def test_a_request_that_is_no_http_is_refused_and_its_text_is_not_logged(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(web.Application()) as runner:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with caplog.at_level(logging.DEBUG):
            async with await anyio.connect_tcp("127.0.0.1", runner.addresses[0][1]) as stream:
                await stream.send(sent)
                answer = await stream.receive()
    assert b" 400 Bad Request" in answer
    assert [record for record in caplog.records if record.name.startswith(("aiohttp", "tidelog"))] == []
