"""Appends to the store at argv[1] until its files may not grow; then repeats the append with room. Tells all."""

import json
import os
import resource
import sys
from pathlib import Path

import anyio

from tidelog.events.bodies import Body
from tidelog.events.vocabulary import ObjectObserved
from tidelog.storage.errors import StoreError
from tidelog.storage.log import ANY, NewEvent, Query, StreamAppend
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.sqlite_log import open_log

LIMIT = 2_000_000


async def main(store: Path) -> dict[str, object]:
    acknowledged: list[str] = []
    errors: list[str] = []
    async with open_log(store) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
        while True:
            body = Body.of(os.urandom(100_000))
            event = NewEvent(ObjectObserved(uid="u", resource_version="1", state=body.ref), id=new_id())
            append = [StreamAppend("east/apps/Deployment/shop/web", ANY, [event])]
            try:
                acknowledged += [made.envelope.id for made in await log.append_all(append, bodies=[body])]
            except StoreError as error:
                errors.append(type(error).__name__)
                if len(errors) == 2:
                    break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    async with open_log(store) as log:
        repeated = [await log.append_all(append, bodies=[body]) for _ in range(2)]
        found = [recorded.envelope.id async for recorded in log.read(Query(types=("ObjectObserved",)))]
    return {
        "errors": errors,
        "acknowledged": acknowledged,
        "repeated": [made[0].envelope.id for made in repeated],
        "found": found,
    }


print(json.dumps(anyio.run(main, Path(sys.argv[1]))))
