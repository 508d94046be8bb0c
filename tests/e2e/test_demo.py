"""`make demo`, the first thing that a newcomer runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

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


def test_what_to_try_next_can_be_copied_line_by_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    demo = module.Demo(tmp_path)
    demo.console = Console(highlight=False, width=60)
    demo.goodbye()
    demo.run("true --with --many --options --that --are --longer --than --a --line --of --the --terminal")
    lines = capsys.readouterr().out.splitlines()
    change = "$EDITOR apps/shop/shop.yaml && git commit -am 'Change the shop'"
    assert f"cd {tmp_path / 'repository'} && {change}" in lines
    assert any(line.startswith("$ true ") and line.endswith(" --terminal") for line in lines)
