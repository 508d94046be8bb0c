"""`make demo`, the first thing that a newcomer runs."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240


@pytest.mark.timeout(TIMEOUT_S + 150)
def test_the_demonstration_tells_its_story_and_goes_on_until_ctrl_c(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (tmp_path / "told").open("w+") as told:
        process = subprocess.Popen(
            [sys.executable, ROOT / "tools" / "demo.py"],
            env={**os.environ, "NO_COLOR": "1", "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while "kubectl -n shop get all\n" not in (tmp_path / "told").read_text():
                assert process.poll() is None, (tmp_path / "told").read_text()
                assert time.monotonic() < deadline, (tmp_path / "told").read_text()
                time.sleep(0.2)
            check_what_to_try_next((tmp_path / "told").read_text(), tmp_path_factory.mktemp("home"))
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            assert process.wait(timeout=60) == 0, (tmp_path / "told").read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    check_story((tmp_path / "told").read_text())
    assert [path for path in tmp_path.iterdir() if path.name != "told"] == [], "something is left behind"


def check_what_to_try_next(told: str, home: Path) -> None:
    """The lines are typed as they stand there, by somebody of whom Git and the shell know nothing."""
    lines = told.rpartition("Your turn")[2].splitlines()
    commands = [line for line in lines if line.startswith(("export ", "cd ", "tidelog ", "kubectl "))]
    assert len(commands) == 7
    # What was committed a moment ago may not be there yet: then the explanation is that, and ends with 1.
    lines = [f"{line} || test $? = 1" if line.startswith("tidelog explain") else line for line in commands]
    script = "\n".join(lines).replace("events -w", "events")
    wait = "until kubectl -n shop get deployment web -o jsonpath={.spec.replicas} | grep -q 3; do sleep 0.2; done"
    typed = subprocess.run(
        ["bash", "-eu", "-c", f"{script}\n{wait}"],
        env={"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout


def check_story(told: str) -> None:
    chapters = re.split(r"^\d\. ", told, flags=re.MULTILINE)
    assert len(chapters) == 6, told
    _, converges, changes, drifts, goes_back, proves = chapters
    for name in ("GitRepository/flux-system", "Kustomization/infrastructure", "Kustomization/shop"):
        assert f"✔ {name}: " in converges, "what becomes ready is not shown"
    plan, _, applied = changes.partition("Ada commits: Sell with podinfo 6.9.0")
    assert "~ update    Deployment/shop/web" in plan
    assert "~ update    Deployment/shop/web" in applied
    assert re.search(r"^Author +Ada <ada@example.com>", applied, re.MULTILINE)
    assert "Was changed: spec.replicas by kubectl" in drifts
    afterwards = goes_back.rpartition("-o jsonpath={.spec.template.spec.containers[0].image}")[2]
    assert afterwards.lstrip().startswith("ghcr.io/stefanprodan/podinfo:6.8.0"), "what was before is not back"
    assert re.search(r"intact: .* [1-9]\d* checkpoint", proves), "nothing was held against a checkpoint"
    assert "\x1b" not in told
    assert not re.search(r"[^\n]\$ (tidelog|kubectl) ", told), "a command begins on the line of an answer"
    assert told.endswith("Everything that was started is ended, and removed.\n")


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
    change = "sed -i 's/replicas: 2/replicas: 3/' apps/shop/shop.yaml && git commit -am 'Sell more'"
    assert f"cd {tmp_path / 'repository'} && {change}" in lines
    assert any(line.startswith("$ true ") and line.endswith(" --terminal") for line in lines)
