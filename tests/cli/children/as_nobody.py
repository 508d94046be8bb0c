"""Runs the command that argv holds, as a user who owns nothing."""

import os
import pkgutil
from importlib import import_module

import tidelog.engine.cli
from tidelog.engine.cli.main import main

NOBODY = 65534

# Before: where Python is may be another user's too.
for module in pkgutil.iter_modules(tidelog.engine.cli.__path__, "tidelog.engine.cli."):
    import_module(module.name)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
main()
