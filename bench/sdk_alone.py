"""A process that renders a chart with Helm's SDK alone: `python -m bench.sdk_alone ARCHIVE VALUES OPTIONS`.

Told a number on stdin, it renders so often, and answers with the seconds of CPU for loading, and for rendering.
"""

import sys
import time
from pathlib import Path

import msgspec

from tidelog.engine.helm.sdk import Chart


def main() -> None:
    """Answers until stdin ends."""
    archive, values, options = Path(sys.argv[1]).read_bytes(), sys.argv[2], msgspec.json.decode(sys.argv[3])
    print("ready", flush=True)
    for line in sys.stdin:
        loading = rendering = 0.0
        for _ in range(int(line)):
            began = time.process_time()
            with Chart.of_archive(archive) as chart:
                loaded = time.process_time()
                chart.render(values, options)
                rendering += time.process_time() - loaded
            loading += loaded - began
        print(loading, rendering, flush=True)


if __name__ == "__main__":
    main()
