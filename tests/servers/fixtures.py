"""Fixtures for tests on real Kubernetes servers. `tests/conftest.py` makes them known to all tests.

The first test that asks for `kubernetes` starts the servers of the whole run, whichever worker it is in. They are
owned by the process that runs the workers, and end with it.
"""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers import kubernetes_servers as servers
from tests.servers.kubernetes_servers import OwnServers, Servers, ServersError

WITHOUT = "needs Kubernetes servers"
NAMESPACE_READY_S = 10.0
"""How long the controller manager may take to give a namespace its service account."""


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> Servers:
    """The API server that all tests of this run share: each keeps to its own `namespace`, and tidies what has none."""
    _require(request)
    directory = _directory_of_run(request.config)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / servers.STATE).exists():
            guard = servers.launch(directory, owner=_owner(request.config))
            (directory / "guard").write_text(str(guard.pid))
            _wait_for_state(directory, guard)
            # Not ours to wait for: it is the whole run's.
            guard.returncode = 0
    return Servers.attach(directory)


@pytest.fixture
def namespace(kubernetes: Servers) -> Iterator[str]:
    """A namespace of this test's own, with its service account `default`; deleted afterwards, without waiting."""
    with new_namespace(kubernetes) as name:
        yield name


@pytest.fixture
def own_servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnServers]:
    """Servers that no other test uses, to be stopped, killed and started. Some 3 s to start."""
    _require(request)
    with servers.start(tmp_path / "servers") as own:
        yield own


@contextmanager
def new_namespace(kubernetes: Servers) -> Iterator[str]:
    """As the fixture `namespace`, for a test that needs more than one."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    answer = kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert answer.status == 201, answer
    until = time.monotonic() + NAMESPACE_READY_S
    while kubernetes.request("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default").status != 200:
        assert time.monotonic() < until, f"the controller manager does nothing: see the logs in {kubernetes.directory}"
        time.sleep(0.02)
    try:
        yield name
    finally:
        kubernetes.request("DELETE", f"/api/v1/namespaces/{name}")


def end_servers(config: pytest.Config) -> None:
    """Ends the servers of this run, in the process that owns them."""
    if _is_worker(config):
        return
    directory = _directory_of_run(config)
    with suppress(FileNotFoundError, ProcessLookupError):
        guard = os.pidfd_open(int((directory / "guard").read_text()))
        signal.pidfd_send_signal(guard, signal.SIGTERM)
        _wait_for_end(guard)
    shutil.rmtree(directory)


def report_skipped(reporter: pytest.TerminalReporter) -> None:
    """Names the tests that did not run for want of servers: a green run must not look like a whole one."""
    skipped = [
        report.nodeid
        for report in reporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple) and WITHOUT in report.longrepr[2]
    ]
    if skipped:
        reporter.section("NOT RUN: no Kubernetes servers (install Go, or set KUBEBUILDER_ASSETS)", red=True, bold=True)
        for name in skipped:
            reporter.line(name)


def _require(request: pytest.FixtureRequest) -> None:
    """Skips only where the servers cannot be had at all, and never in CI."""
    try:
        servers.find()
    except ServersError as error:
        if os.environ.get("CI") == "true" or os.environ.get("KUBEBUILDER_ASSETS") or servers.can_build():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(f"{WITHOUT}: neither Go nor KUBEBUILDER_ASSETS is there")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _owner(config: pytest.Config) -> int:
    """The process that outlives all workers."""
    return os.getppid() if _is_worker(config) else os.getpid()


def _directory_of_run(config: pytest.Config) -> Path:
    """Where the run's workers meet. Not in pytest's own directory: that is kept for days, and this has keys."""
    name = f"tidelog-servers-{os.getuid()}"
    return servers.directory_of_process(Path(tempfile.gettempdir()), name, _owner(config))


def _wait_for_state(directory: Path, guard: subprocess.Popen[str]) -> None:
    while not (directory / servers.STATE).exists():
        if guard.poll() is not None:
            pytest.fail((directory / "guard.log").read_text(), pytrace=False)
        time.sleep(0.05)


def _wait_for_end(guard: int) -> None:
    select.select([guard], [], [], 3 * servers.STOP_S)
    os.close(guard)
