"""Every command in the documentation is run, and prints what the documentation says."""

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers import embedded_servers
from tests.servers.kubernetes_servers import Servers

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TIMEOUT_S = 60
FLUX_PORTS = (8080, 9090, 9440)
"""Where a daemon serves that is not told otherwise."""

SERVED = {"health": 9440, "metrics": 8080, "webhook": 9292}
"""Where a page may ask the daemon: by Flux's own ports, in whose place others are asked that are free for sure."""

PROGRAM = """\
#!/bin/sh
# `tidelog run` as a page has it, but on ports that are free for sure: what listens on Flux's own is not of the page.
if [ "${1-}" = run ]; then
    set -- "$@" --storage-addr 127.0.0.1:0 %s
fi
exec "%s" "$@"
"""

BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_ONLY = {"text"}
"""Kinds of blocks that are neither commands nor files: pictures, forms."""


class Block(NamedTuple):
    kind: str
    text: str


class Step(NamedTuple):
    command: str
    output: str


def blocks(page: Path) -> list[Block]:
    return [Block(match["kind"].strip(), match["text"]) for match in BLOCK.finditer(page.read_text())]


def steps(text: str) -> list[Step]:
    """Commands (`$ …`, continued with `> …`) and what each prints; `...` stands for anything."""
    found: list[Step] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif line.startswith("> ") and found and not found[-1].output:
            found[-1] = Step(found[-1].command + line[2:], "")
        elif found:
            found[-1] = Step(found[-1].command, found[-1].output + line)
        else:
            raise AssertionError(f"a console block begins with a command, not with {line!r}")
    return found


class Programs(NamedTuple):
    """`tidelog` as the pages run it."""

    directory: Path
    addresses: dict[int, str]
    """Where it listens in the place of Flux's own ports."""

    def command(self, text: str) -> str:
        """A command of a page, as it is run."""
        return re.sub(r"\blocalhost:(\d+)", lambda found: self.addresses[int(found[1])], text)


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    directory = tmp_path_factory.mktemp("bin")
    addresses = free_addresses()
    flags = " ".join(f"--{name}-addr {addresses[port]}" for name, port in SERVED.items())
    program = directory / "tidelog"
    program.write_text(PROGRAM % (flags, Path(sys.executable).with_name("tidelog")))
    program.chmod(0o755)
    return Programs(directory, addresses)


def free_addresses() -> dict[int, str]:
    """An address for each port where a daemon serves: of this process's own host, so that nobody takes it meanwhile."""
    host = f"127.7.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server((host, 0))) for _ in SERVED]
        ports = [probe.getsockname()[1] for probe in probes]
    return {port: f"{host}:{own}" for port, own in zip(SERVED.values(), ports, strict=True)}


def run(command: str, directory: Path, programs: Programs, kubeconfig: Path | None = None) -> str:
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    path = f"{programs.directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "HOME": str(directory), "PYTHONWARNINGS": "error", "NO_COLOR": "1"}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", programs.command(command)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        text=True,
        check=False,
    )
    logs = "".join(f"{log.name}:\n{log.read_text()}" for log in directory.glob("*.log"))
    assert result.returncode == 0, f"$ {command}\n{result.stdout}(exit {result.returncode})\n{logs}"
    return result.stdout


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_commands_of_a_page_print_what_it_says(
    page: Path, tmp_path: Path, programs: Programs, request: pytest.FixtureRequest
) -> None:
    # A page that is about a cluster has one of its own: what it says holds on an empty one. An embedded one is quicker
    # there, and the first pages that somebody reads are held to the real one.
    needs_cluster = any("kubectl" in block.text for block in blocks(page) if block.kind == "console")
    servers = "embedded" if page.parent.name == "how-to" else "own_servers"
    kubeconfig = request.getfixturevalue(servers).kubeconfig if needs_cluster else None
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    try:
        follow(page, tmp_path, programs, kubeconfig)
    finally:
        for left in tmp_path.glob("*.pid"):  # what works in the background ends with the page, also where it fails
            with suppress(ProcessLookupError):
                os.kill(int(left.read_text()), signal.SIGTERM)


@pytest.fixture
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cluster in this process that answers as the real one does."""
    with embedded_servers.start(tmp_path_factory.mktemp("embedded")) as started:
        yield started


@pytest.fixture
def flux_ports_taken() -> Iterator[None]:
    """Somebody listens on Flux's own ports: we do, or whoever was there before."""
    with ExitStack() as held:
        for port in FLUX_PORTS:
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                listener.listen()
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("flux_ports_taken")
def test_a_page_does_not_mind_who_listens_on_fluxs_own_ports(
    tmp_path: Path, programs: Programs, own_servers: Servers
) -> None:
    follow(ROOT / "README.md", tmp_path, programs, own_servers.kubeconfig)


def follow(page: Path, directory: Path, programs: Programs, kubeconfig: Path | None) -> None:
    """Runs the commands of a page, and holds what they print against what it says."""
    checker = doctest.OutputChecker()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for block in blocks(page):
        name, _, title = block.kind.partition(" title=")
        match name:
            case "console":
                for step in steps(block.text):
                    printed = run(step.command, directory, programs, kubeconfig)
                    assert checker.check_output(step.output, printed, flags), (
                        f"{page.name}: $ {step.command}expected:\n{step.output}\nprinted:\n{printed}"
                    )
            case "python" if title:
                (directory / title).write_text(block.text)
            case "sh":
                check_make_targets(block.text)
            case _:
                assert name in SHOWN_ONLY, f"{page.name}: a block of kind {block.kind!r} would not be run"


def check_make_targets(text: str) -> None:
    """Blocks of kind `sh` are for a clone of the repository: they hold make's targets and nothing else."""
    makefile = (ROOT / "Makefile").read_text()
    for line in text.splitlines():
        command, _, _ = line.partition("#")
        tool, target = command.split()[:2]
        assert tool == "make", line
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"make has no target {target}"


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", BLOCK.sub("", page.read_text()))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    missing = [
        str(page)
        for page in pages
        if page.name != "README.md" and page.parts[0] != "decisions" and f"({page})" not in index
    ]
    assert missing == []


def test_the_readme_fits_a_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 75
