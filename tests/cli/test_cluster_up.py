"""`tidelog cluster up`: where it listens."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TIDELOG = Path(sys.executable).with_name("tidelog")
LIMIT_S = 60


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def test_it_listens_on_the_port_that_is_asked_for(tmp_path: Path, port: int) -> None:
    command = [str(TIDELOG), "cluster", "up", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout
            assert up.stdout.readline() == f"The cluster is up at https://127.0.0.1:{port}. Ctrl-C ends it.\n"
            assert f"https://127.0.0.1:{port}" in (tmp_path / "tidelog-cluster.kubeconfig").read_text()
            kubectl = [str(TIDELOG.with_name("kubectl")), "--kubeconfig", "tidelog-cluster.kubeconfig"]
            asked = [*kubectl, "get", "namespace", "default", "-o", "name"]
            done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            assert (done.stdout, done.stderr) == ("namespace/default\n", "")
        finally:
            up.terminate()
        assert up.wait(LIMIT_S) == 0


@contextmanager
def up(directory: Path, port: int, kubeconfig: str) -> Iterator[None]:
    """A cluster that is served while the block lasts."""
    command = [str(TIDELOG), "cluster", "up", "--port", str(port), "--kubeconfig", kubeconfig]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout
            assert running.stdout.readline().startswith("The cluster is up")
            yield
        finally:
            running.terminate()
        assert running.wait(LIMIT_S) == 0


def test_a_kubeconfig_whose_cluster_has_ended_says_so_and_what_to_do(tmp_path: Path, port: int) -> None:
    def refused() -> str:
        command = [str(TIDELOG), "install", "--kubeconfig", "before.kubeconfig"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 3, done
        return done.stderr

    with up(tmp_path, port, "before.kubeconfig"):
        pass
    told = "context 'tidelog' of before.kubeconfig is of an embedded cluster, which is there as long as the process"
    first = refused()
    assert f"no connection to https://127.0.0.1:{port}: Connection refused; {told}" in first
    assert "start that again (`tidelog run --cluster embedded --kubeconfig-out FILE`" in first
    with up(tmp_path, port, "now.kubeconfig"):
        another = refused()
    assert f"; another server is at that address now: {told}" in another


def test_a_second_process_on_a_directory_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    command = [str(TIDELOG), "cluster", "up", "--store", "store", "--kubeconfig"]
    with subprocess.Popen([*command, "first"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout
            assert up.stdout.readline().startswith("The cluster is up at ")
            second = [*command, "second"]
            done = subprocess.run(second, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            told = " ".join(done.stderr.split())
            assert (done.returncode, done.stdout) == (3, "")
            assert f"store is being written by process {up.pid} on {socket.gethostname()} (tidelog)" in told
            assert "stop it first" in told
            assert "Traceback" not in done.stderr
            assert not (tmp_path / "second").exists()
        finally:
            up.terminate()
        assert up.wait(LIMIT_S) == 0


@pytest.mark.parametrize(
    ("there", "code", "told"),
    [
        ("store", 2, "Invalid value for '--store': Directory 'store' is a file."),
        ("store/cluster.db", 3, "it is empty (0 bytes); put a copy back, or delete it to begin anew"),
    ],
)
def test_a_store_that_is_none_is_told_with_what_to_do(tmp_path: Path, there: str, code: int, told: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    command = [str(TIDELOG), "cluster", "up", "--store", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_that_a_port_is_taken_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        command = [str(TIDELOG), "cluster", "up", "--port", str(taken), "--store", "store"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    told = f"port {taken} of 127.0.0.1 is taken: name another with --port, or none for any that is free"
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "tidelog-cluster.kubeconfig").exists(), "no kubeconfig leads to somebody else's server"
