"""Opens the store at argv[2] as a user who owns nothing, to do what argv[1] says; tells what came.

That is to `write` or `read` its log, or to `keep` an embedded cluster there.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import anyio

from tidelog.engine.cluster.embedded.keeper import keeping
from tidelog.engine.cluster.embedded.store import Store
from tidelog.storage.errors import StoreError
from tidelog.storage.log import Query
from tidelog.storage.log.sqlite_log import open_log, read_log

NOBODY = 65534


async def warm_up() -> None:
    """Imports what is imported late: afterwards this user cannot reach Python's own files, perhaps."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_log(Path(directory) / "store") as log:
            await log.head()


async def main(what: str, store: Path) -> str:
    await warm_up()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        if what == "keep":
            async with keeping(Store(), store):
                return "opened"
        if what == "write":
            async with open_log(store) as log:
                return f"opened at {await log.head()}"
        async with read_log(store) as reader:
            return f"read {len([recorded async for recorded in reader.read(Query())])}"
    except StoreError as error:
        return f"{type(error).__name__}: {error}"


print(json.dumps(anyio.run(main, sys.argv[1], Path(sys.argv[2]))))
