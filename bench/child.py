"""A process that folds a log while another one watches its memory: `python -m bench.child WORK STORE`.

It says `ready` when all that it needs is imported, begins when it is told to, and answers with the seconds.
"""

import sys
import time
from contextlib import closing

from bench.folding import TargetFold
from tidelog.storage.layout import Layout
from tidelog.storage.log.reader import LogReader
from tidelog.storage.projections.projector import rebuild


def main() -> None:
    """Does one of two works."""
    work, layout = sys.argv[1], Layout(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    if work == "fold":
        with closing(LogReader(layout.log)) as reader:
            TargetFold().run(reader, 0, reader.head())
    else:
        rebuild(layout, lambda position, _: print(position, flush=True))
    print("seconds", time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
