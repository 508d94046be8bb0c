"""Subscribes to the store at argv[1], and tells the positions of the first argv[2] events, one to a line."""

import sys
from pathlib import Path

import anyio

from tidelog.storage.log import Query
from tidelog.storage.log.sqlite_log import read_log


async def main(store: Path, count: int) -> None:
    async with read_log(store) as reader:
        async for recorded in reader.subscribe(Query()):
            print(recorded.envelope.position, flush=True)
            if recorded.envelope.position == count:
                return


anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
