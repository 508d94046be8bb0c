"""What `--kubeconfig-out` writes reaches the same cluster as the same user, from anywhere."""

import stat
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.kubeconfig import Access, Exec, User, find_access
from tidelog.engine.cluster.kubeconfig_out import write_kubeconfig
from tidelog.engine.cluster.real import open_cluster

SERVER = "https://127.0.0.1:6443"


@pytest.mark.parametrize(
    "user",
    [
        User(),
        User(token="t"),
        User(token=Path("/var/run/token")),
        User(certificate=b"certificate", key=b"key"),
        User(basic=("ada", "secret")),
        User(token="t", act_as=("jane", ("admins",))),
        User(exec=Exec(("get-token", "--now"), "client.authentication.k8s.io/v1", {"A": "b"}, None, "install it")),
    ],
    ids=["nobody", "token", "token-file", "certificate", "basic", "act-as", "exec"],
)
@pytest.mark.parametrize("embedded", [False, True])
def test_what_is_written_is_read_as_the_same(tmp_path: Path, user: User, *, embedded: bool) -> None:
    access = Access(
        origin="here", server=SERVER, user=user, ca=b"authority", server_name="kubernetes", embedded=embedded
    )
    path = tmp_path / "out"
    path.write_text("what was there before")
    write_kubeconfig(path, access)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = find_access(path, None, {})
    assert msgspec.structs.replace(found, origin="here") == access
    assert list(tmp_path.iterdir()) == [path]


def test_the_kubeconfig_of_other_clusters_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config"
    others = "{kind: Config, clusters: [{name: production, cluster: {server: 'https://example.com'}}]}"
    path.write_text(others)
    with pytest.raises(FileExistsError, match="other clusters"):
        write_kubeconfig(path, Access(origin="", server=SERVER, user=User()))
    assert path.read_text() == others
    path.unlink()
    for server in (SERVER, "https://127.0.0.1:1"):  # one's own is
        write_kubeconfig(path, Access(origin="", server=server, user=User()))
    assert find_access(path, None, {}).server == "https://127.0.0.1:1"


def test_files_are_taken_into_it(tmp_path: Path) -> None:
    for name in ("certificate", "key"):
        (tmp_path / name).write_text(name)
    user = User(certificate=tmp_path / "certificate", key=tmp_path / "key")
    write_kubeconfig(tmp_path / "out", Access(origin="", server=SERVER, user=user))
    assert find_access(tmp_path / "out", None, {}).user == User(certificate=b"certificate", key=b"key")


def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "out"
    write_kubeconfig(path, Access(origin="", server=SERVER, user=User()))
    assert find_access(path, None, {}).server == SERVER


async def test_it_reaches_the_cluster(kubernetes: Servers, tmp_path: Path) -> None:
    access = await anyio.to_thread.run_sync(find_access, kubernetes.kubeconfig, None, {})
    await anyio.to_thread.run_sync(write_kubeconfig, tmp_path / "out", access)
    async with open_cluster(tmp_path / "out") as cluster:
        assert await cluster.kinds()
