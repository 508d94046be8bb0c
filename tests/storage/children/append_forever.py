"""Appends to the store at argv[1] until it is killed; argv[2] is the seed.

Each line of the standard output is one write: `try <id> <streams>` before an append, `ack <id> <streams>` when
it was acknowledged. What is appended follows from the id and the number of streams, so that it can be repeated.
"""

import os
import sys
from pathlib import Path
from random import Random

import anyio

from tests.storage.samples import appends_of
from tidelog.events.names import EventId, uuid7
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log

PRODUCERS = 4


async def produce(log: SqliteEventLog, random: Random) -> None:
    while True:
        event = EventId(uuid7(random.getrandbits(40), random.randbytes(10))[:-1] + "0")
        streams = random.choice([1, 1, 1, 2, 3])
        os.write(1, f"try {event} {streams}\n".encode())
        appends, bodies = appends_of(event, streams)
        await log.append_all(appends, bodies=bodies)
        os.write(1, f"ack {event} {streams}\n".encode())


async def main(store: Path, seed: int) -> None:
    random = Random(seed)
    async with open_log(store) as log, anyio.create_task_group() as tasks:
        for _ in range(PRODUCERS):
            tasks.start_soon(produce, log, Random(random.getrandbits(64)))


anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
