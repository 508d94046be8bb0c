"""A store with something secret in it, and everything that could give it away."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import anyio
import anyio.to_thread
import pytest
import zstandard

from tidelog.events.bodies import Body
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import ObjectObserved
from tidelog.storage import ANY, NewEvent, open_log, open_views
from tidelog.storage.keys import KeyRing, MasterKey
from tidelog.storage.layout import Layout
from tidelog.storage.master_key import find_master_key

STREAM = StreamName("east/core/Secret/shop/db")
OTHER = StreamName("east/core/Secret/shop/other")
PLANTED = "correct-horse-battery-staple"
DOCUMENT = f'{{"data":{{"password":"{base64.b64encode(PLANTED.encode()).decode()}"}},"raw":"{PLANTED}"}}'.encode()


class Made(NamedTuple):
    """A store, and the secret bodies that it was given."""

    directory: Path
    body: Body
    other: Body

    @property
    def layout(self) -> Layout:
        return Layout(self.directory)

    def ring(self, *, create: bool = False) -> KeyRing:
        return KeyRing.open(self.layout, self.master, create=create)

    @property
    def master(self) -> MasterKey:
        return find_master_key(self.layout, {}, create=False)

    def in_copy(self, directory: Path) -> "Made":
        return Made(Path(shutil.copytree(self.directory, directory)), self.body, self.other)


async def make(directory: Path) -> Made:
    """A store with a secret body in each of two streams, and projections of them."""
    async with open_log(directory) as log, open_views(log) as views:
        layout = log.layout
        master = await anyio.to_thread.run_sync(lambda: find_master_key(layout, {}, create=True))
        ring = await anyio.to_thread.run_sync(KeyRing.open, layout, master)
        bodies = []
        for stream in (STREAM, OTHER):
            body = (await ring.key(stream)).seal(DOCUMENT)
            event = ObjectObserved(uid="u", resource_version="1", state=body.ref)
            await log.append(stream, ANY, [NewEvent(event)], bodies=[body])
            bodies.append(body)
        await views.catch_up()
    return Made(directory, *bodies)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Not to be changed."""
    return anyio.run(make, tmp_path_factory.mktemp("keys") / "store")


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy to be changed."""
    return original.in_copy(tmp_path / "store")


def forms(value: str) -> Iterator[bytes]:
    """A value as it might stand in a file."""
    data = value.encode()
    yield data
    yield quote(value, safe="").encode()
    yield data.hex().encode()
    yield data[::-1]
    for before in range(3):
        yield base64.b64encode(b"\0" * before + data).rstrip(b"=")[4:-1]


def places_of(value: str, directory: Path) -> list[str]:
    """The files below a directory in which a value stands, in any form, also compressed."""
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found += [path.name for form in forms(value) if any(form in text for text in readings(content))]
    return found


def readings(content: bytes) -> Iterator[bytes]:
    """A file's bytes, and those of every zstd frame that begins anywhere in it."""
    yield content
    magic = b"\x28\xb5\x2f\xfd"
    at = content.find(magic)
    while at >= 0:
        with suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(content[at:])
        at = content.find(magic, at + 1)


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether numbers are to be large."""
    return bool(os.environ.get("TIDELOG_SOAK"))
