"""Appends to the store at argv[1] from several producers, and tells each acknowledgement with one write.

Each line of the standard output is `ack <event id>`, or `done`. argv[2] is the number of appends, argv[3]
(optional) the value of `PRAGMA synchronous` to be set behind the log's back, as a broken writer would. With
`-` for that, argv[4] is the id of the only event to be appended.
"""

import os
import random
import sys
from pathlib import Path

import anyio

from tidelog.events.bodies import Body
from tidelog.events.names import EventId, StreamName
from tidelog.events.vocabulary import Marked, ObjectObserved
from tidelog.storage.log import ANY, NewEvent
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log

PRODUCERS = 3
BODY_EVERY = 4


async def append(log: SqliteEventLog, producer: int, number: int, only: EventId | None) -> None:
    bodies = [] if only or number % BODY_EVERY else [Body.of(random.randbytes(60_000))]
    event = (
        ObjectObserved(uid="u", resource_version="1", state=bodies[0].ref)
        if bodies
        else Marked(label="test", why="" if only else f"{producer} {number}")
    )
    stream = StreamName(f"east/apps/Deployment/shop/web-{producer}")
    made = await log.append(stream, ANY, [NewEvent(event, id=only or new_id())], bodies=bodies)
    os.write(1, f"ack {made[0].envelope.id}\n".encode())


async def produce(log: SqliteEventLog, producer: int, count: int) -> None:
    for number in range(count):
        await append(log, producer, number, None)


async def main(store: Path, count: int, synchronous: str, only: str) -> None:
    async with open_log(store) as log:
        if synchronous not in ("", "-"):
            log._store.writer._db.execute(f"PRAGMA synchronous = {synchronous}")
        if only:
            await append(log, 0, 0, EventId(only))
        else:
            async with anyio.create_task_group() as tasks:
                for producer in range(PRODUCERS):
                    tasks.start_soon(produce, log, producer, count // PRODUCERS)
    os.write(1, b"done\n")


arguments = [*sys.argv[1:], "", ""]
anyio.run(main, Path(arguments[0]), int(arguments[1]), arguments[2], arguments[3])
