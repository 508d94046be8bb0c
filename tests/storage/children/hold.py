"""Opens the store at argv[1] to write, says `open`, and keeps it until the standard input ends."""

import sys
from pathlib import Path

import anyio
import anyio.to_thread

from tidelog.storage.log.sqlite_log import open_log


async def main(store: Path) -> None:
    async with open_log(store):
        print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


anyio.run(main, Path(sys.argv[1]))
