"""Serves artifacts as `status.artifact` names them (contract CM-027, SC-010, SC-018), so that others can read them.

A path is looked up among those that statuses name, and never taken for a place on the disk.
"""

import os
from collections.abc import Callable
from typing import BinaryIO, Final

import anyio.to_thread
from aiohttp import web

from tidelog.events.digest import Digest
from tidelog.storage.artifacts import ArtifactStore

CHUNK_BYTES: Final = 2**18
GZIP: Final = "application/gzip"

Named = Callable[[str], Digest | None]
"""The digest of the tar.gz that a status names with this path; None where none does."""


def artifact_routes(store: ArtifactStore, named: Named) -> list[web.RouteDef]:
    """The routes that serve artifacts: GET and HEAD of every path.

    Args:
        store: where the tar.gz files are.
        named: what statuses name now; asked at each request, on the event loop.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        digest = named(request.match_info["path"])
        file = await anyio.to_thread.run_sync(_open, store, digest) if digest is not None else None
        if digest is None or file is None:
            raise web.HTTPNotFound(text="no status names this artifact now\n")
        with file:
            return await _send(request, digest, file)

    return [web.get("/{path:.+}", serve)]


async def _send(request: web.Request, digest: Digest, file: BinaryIO) -> web.StreamResponse:
    etag = digest.partition(":")[2]
    asked = request.if_none_match or ()
    if any(tag.value in {etag, "*"} for tag in asked):
        return web.Response(status=304, headers={"ETag": f'"{etag}"'})
    response = web.StreamResponse(
        headers={"Content-Type": GZIP, "ETag": f'"{etag}"', "X-Content-Type-Options": "nosniff"}
    )
    response.content_length = os.fstat(file.fileno()).st_size
    await response.prepare(request)
    if request.method != "HEAD":
        while chunk := await anyio.to_thread.run_sync(file.read, CHUNK_BYTES):
            await response.write(chunk)
    await response.write_eof()
    return response


def _open(store: ArtifactStore, digest: Digest) -> BinaryIO | None:
    """The file, opened: should it be collected now, whoever reads it reads it to its end."""
    path = store.tarball_path(digest)
    try:
        return path.open("rb") if path is not None else None
    except FileNotFoundError:
        store.forget_tarball(digest)
        return None
