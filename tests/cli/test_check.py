"""What `tidelog check` says of daemons that are, and are not, there."""

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidelog.engine.cli.door import Access
from tidelog.engine.cli.installation import held_by, look_for_daemon
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.holders import own_name

UUID = "0190b3b8-0000-7000-8000-000000000000"


def lease(holder: str, *, renewed_s_ago: float = 0.0) -> KubeObject:
    renewed = datetime.now(UTC) - timedelta(seconds=renewed_s_ago)
    return {
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 600, "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"}
    }


def ended_daemon() -> tuple[int, str]:
    """The process of one that ended, and the name that it had."""
    said = "import os; from tidelog.engine.runtime.holders import own_name; print(os.getpid(), own_name())"
    process, name = subprocess.check_output([sys.executable, "-c", said], text=True).split()
    return int(process), name


def test_a_daemon_of_this_host_that_was_killed_is_said_to_be_gone() -> None:
    process, name = ended_daemon()
    found = held_by("lease x", lease(name))
    assert (found.well, found.warning) == (True, True)
    assert f"its process {process} is gone from this host" in found.message


def test_a_daemon_that_is_there_holds_its_lease_and_so_does_one_elsewhere() -> None:
    _, name = ended_daemon()
    for holder in (own_name(), f"else{name}", f"{socket.gethostname()}_1_{UUID}"):
        found = held_by("lease x", lease(holder))
        assert (found.well, found.warning) == (True, False)
        assert found.message == f"{holder} holds it (a daemon of ours)"


def test_a_lease_that_has_run_out_is_no_sign_of_anybody_at_work() -> None:
    found = held_by("lease x", lease("kustomize-controller-7d4_x", renewed_s_ago=601))
    assert (found.well, found.warning) == (True, True)
    assert found.message.endswith("held it, and it has run out (Flux, or another engine that is not at work)")


def test_nobody_holds_a_lease_that_is_not_there_or_was_let_go() -> None:
    for free in (None, lease("")):
        assert held_by("lease x", free).message == "nobody holds it"


async def test_that_no_daemon_runs_is_said_plainly(tmp_path: Path) -> None:
    found = await look_for_daemon(Access(tmp_path / "store", None, None))
    assert (found.well, found.warning) == (True, True)
    assert found.message == (
        "none runs with this store: nothing keeps the cluster as its repositories say; `tidelog run` starts one"
    )
