"""Seals a new secret a turn under a new stream's key in the store at argv[1], appends it, and tells its digest."""

import os
import sys
from itertools import count
from pathlib import Path

import anyio
import anyio.to_thread

from tidelog.events.names import StreamName
from tidelog.events.vocabulary import ObjectObserved
from tidelog.storage import ANY, NewEvent, open_log
from tidelog.storage.keys import KeyRing
from tidelog.storage.log.ids import new_id
from tidelog.storage.master_key import find_master_key


async def main(store: Path) -> None:
    async with open_log(store) as log:
        master = await anyio.to_thread.run_sync(lambda: find_master_key(log.layout, {}, create=True))
        ring = await anyio.to_thread.run_sync(KeyRing.open, log.layout, master)

        async def seal() -> None:
            for number in count():
                stream = StreamName(f"east/core/Secret/shop/{new_id()}")
                body = (await ring.key(stream)).seal(f"secret {number}".encode())
                event = ObjectObserved(uid="u", resource_version="1", state=body.ref)
                await log.append(stream, ANY, [NewEvent(event)], bodies=[body])
                os.write(1, b".")

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(seal)


anyio.run(main, Path(sys.argv[1]))
