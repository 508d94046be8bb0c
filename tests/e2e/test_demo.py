"""`make demo`, the first thing that a newcomer runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.kubernetes_servers import Servers

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240


@pytest.mark.timeout(TIMEOUT_S + 30)
def test_the_demonstration_tells_its_story_to_the_end(kubernetes: Servers) -> None:
    """It starts servers of its own; `kubernetes` says that there are some to be had."""
    assert kubernetes is not None
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "demo.py", "--once"],
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    chapters = [line for line in done.stdout.splitlines() if line[:2] in {"1.", "2.", "3.", "4.", "5."}]
    assert len(chapters) == 5, done.stdout
    assert "podinfo:6.8.0\n" in done.stdout.partition("tidelog reapply")[2], "what was before is not back"
    assert "intact: " in done.stdout
