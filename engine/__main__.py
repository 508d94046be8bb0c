"""`python -m tidelog.engine` is the command `tidelog`."""

from tidelog.engine.cli.main import main

main()
