"""`make demo`, the first thing that a newcomer runs."""

import os
import re
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
    for chapter in range(1, 6):
        assert f"{chapter}. " in done.stdout, done.stdout
    afterwards = done.stdout.rpartition("-o jsonpath={.spec.template.spec.containers[0].image}")[2]
    assert afterwards.lstrip().startswith("ghcr.io/stefanprodan/podinfo:6.8.0"), "what was before is not back"
    assert re.search(r"intact: .* [1-9]\d* checkpoints", done.stdout), "nothing was held against a checkpoint"
    assert "\x1b" not in done.stdout
    assert not re.search(r"[^\n]\$ (tidelog|kubectl) ", done.stdout), "a command begins on the line of an answer"
