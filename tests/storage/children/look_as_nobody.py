"""Reads the store at argv[1] as a user who owns nothing; at each line of input tells its head, and whether frozen."""

import json
import os
import sys
from pathlib import Path

from tidelog.events.names import StreamName
from tidelog.storage.connection import FrozenConnection
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader

NOBODY = 65534

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
reader = LogReader(Path(sys.argv[1]) / "log.db")
for _ in sys.stdin:
    last = reader.last(Query(stream=StreamName("east/apps/Deployment/shop/web-0")))
    assert last is not None
    assert reader.tree().size == last.envelope.position
    print(json.dumps([last.envelope.position, isinstance(reader._db, FrozenConnection)]), flush=True)
