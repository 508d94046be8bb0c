"""Looks for secret values in all that a store has."""

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import zstandard


def found_in(store: Path, value: bytes) -> list[str]:
    """Where a value is, plain or base64: in any file as it is, and in what the log has compressed.

    Git's own objects are compressed too, and not looked into: what is in Git was put there by who wrote it.
    """
    wanted = (value, base64.b64encode(value).rstrip(b"="))
    return [where for where, data in _everything(store) if any(one in data for one in wanted)]


def _everything(store: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(store.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(store)), path.read_bytes()
    with closing(sqlite3.connect(f"file:{store / 'log.db'}?mode=ro", uri=True)) as log:
        for (envelope,) in log.execute("SELECT envelope FROM events"):
            yield "an event", envelope.encode()
        unpack = zstandard.ZstdDecompressor().decompressobj
        for digest, secret, data in log.execute("SELECT digest, secret, data FROM bodies"):
            yield f"the body {digest}", data if secret else unpack().decompress(data)
