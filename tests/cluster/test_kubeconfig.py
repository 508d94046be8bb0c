"""Which cluster, and as whom: what a kubeconfig says, and what is said when it says nothing good."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import write_kubeconfig
from tidelog.engine.cluster.errors import KubeconfigError
from tidelog.engine.cluster.kubeconfig import Access, find_access

SERVER = "https://one.example:6443"
SECRET = "nobody-may-see-this"
OTHER = "name another one with --kubeconfig, or in KUBECONFIG"


def load(path: Path, context: str | None = None) -> Access:
    return find_access(path, context)


def refused(path: Path, context: str | None = None) -> str:
    with pytest.raises(KubeconfigError) as caught:
        find_access(path, context)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None or SECRET not in str(caught.value.__cause__)
    return str(caught.value)


def config(path: Path, **changed: Any) -> Path:
    document: dict[str, Any] = json.loads(write_kubeconfig(path, SERVER, {"token": SECRET}).read_text())
    document.update({key.replace("_", "-"): value for key, value in changed.items()})
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config"


def test_current_context_is_taken(path: Path) -> None:
    access = load(config(path))
    assert (access.server, access.user.token) == (SERVER, SECRET)
    assert access.origin == f"context 'it' of {path}"
    assert access.verify


def test_other_context_is_taken_when_named(path: Path) -> None:
    two = {"name": "d", "cluster": {"server": "https://two.example/prefix/", "insecure-skip-tls-verify": True}}
    contexts = [{"name": "other", "context": {"cluster": "d"}}]
    access = load(config(path, clusters=[two], contexts=contexts), "other")
    assert (access.server, access.verify, access.user.token) == ("https://two.example/prefix", False, None)


def test_yaml_as_kubectl_writes_it(path: Path) -> None:
    path.write_text(
        f"""
apiVersion: v1
kind: Config
preferences: {{}}
current-context: dev
clusters:
- name: dev
  cluster:
    server: {SERVER}
    tls-server-name: other.example
    proxy-url: http://proxy.example:3128
contexts:
- name: dev
  context: {{cluster: dev, user: dev, namespace: somewhere}}
users:
- name: dev
  user:
    username: me
    password: "{SECRET}"
    as: robot
    as-groups: [robots]
"""
    )
    access = load(path)
    assert (access.server_name, access.proxy) == ("other.example", "http://proxy.example:3128")
    assert access.user.basic == ("me", SECRET)
    assert access.user.act_as == ("robot", ("robots",))


def test_relative_files_are_beside_the_kubeconfig(path: Path) -> None:
    (path.parent / "pki").mkdir()
    (path.parent / "pki" / "ca.crt").write_bytes(b"the authority")
    user = {"client-certificate": "pki/me.crt", "client-key": "/elsewhere/me.key", "tokenFile": "pki/token"}
    access = load(write_kubeconfig(path, SERVER, user, **{"certificate-authority": "pki/ca.crt"}))
    assert access.ca == b"the authority"
    assert access.user.certificate == path.parent / "pki" / "me.crt"
    assert access.user.key == Path("/elsewhere/me.key")
    assert access.user.token == path.parent / "pki" / "token"


def test_nothing_that_is_secret_is_in_a_repr(path: Path) -> None:
    user = {
        "token": SECRET,
        "username": "me",
        "password": SECRET,
        "exec": {
            "command": "plugin",
            "apiVersion": "v1",
            "args": [SECRET],
            "env": [{"name": "A", "value": SECRET}],
        },
    }
    access = load(write_kubeconfig(path, SERVER, user, **{"proxy-url": f"http://me:{SECRET}@proxy.example"}))
    assert SECRET not in f"{access!r} {access.user!r} {access.user.exec!r}"


# ------------------------------------------------------------------------------------------------- what is wrong


def test_absent_file_is_named(path: Path) -> None:
    assert refused(path) == f"cannot read the kubeconfig {path}: No such file or directory; {OTHER}"


def test_folder_is_no_kubeconfig(path: Path) -> None:
    path.mkdir()
    assert refused(path) == f"cannot read the kubeconfig {path}: Is a directory; {OTHER}"


def test_empty_file_says_so(path: Path) -> None:
    path.write_text("")
    assert refused(path) == f"the kubeconfig {path} is empty: {OTHER}"


@pytest.mark.parametrize("content", ["- a list", "a text", "7"])
def test_file_of_something_else_is_told_as_that(path: Path, content: str) -> None:
    path.write_text(content)
    assert refused(path) == f"{path} is no kubeconfig, which has clusters, users and contexts: {OTHER}"


def test_file_without_contexts_says_so(path: Path) -> None:
    path.write_text("{apiVersion: v1, kind: Config}")
    assert refused(path) == f"{path} has no contexts: {OTHER}"


def test_broken_yaml_is_told_by_line_and_shows_nothing(path: Path) -> None:
    path.write_text(f"users:\n- name: u\n  user:\n    token: {SECRET}: {SECRET}\n")
    assert refused(path).startswith(f"the kubeconfig is no YAML: {path}, line 4: ")


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01\x02",
        b"\xff\xfe\xfd",
        b"- a list",
        b"'a text'",
        b"clusters: 7",
        b"clusters: [{name: [1]}]",
        b"[" * 5_000,
    ],
)
def test_what_is_no_kubeconfig_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert str(path) in refused(path)


def test_field_of_the_wrong_type_is_named(path: Path) -> None:
    path.write_text(f"users: [{{name: u, user: {{token: [{SECRET}]}}}}]")
    assert refused(path).endswith("Expected `str | null`, got `array` - at `$.users[0].user.token`")


def test_file_of_secrets_without_end_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(17 << 20)
    assert "more than 16 MiB" in refused(path)


def test_no_current_context_lists_those_that_are_there(path: Path) -> None:
    assert "has no current-context: name one with --context, one of: it" in refused(config(path, current_context=""))


def test_absent_context_cluster_and_user_are_named(path: Path) -> None:
    assert "has no context 'prod'; its contexts: it" in refused(config(path), "prod")
    dangling = [{"name": "it", "context": {"cluster": "c2", "user": "u"}}]
    assert "names the cluster 'c2', which is not there; its clusters: c" in refused(config(path, contexts=dangling))
    dangling = [{"name": "it", "context": {"cluster": "c", "user": "u2"}}]
    assert "names the user 'u2', which is not there; its users: u" in refused(config(path, contexts=dangling))


@pytest.mark.parametrize(
    "server", ["", "one.example:6443", "ftp://one.example", "https://", "https://one:port", "https://[::1"]
)
def test_server_that_is_no_url_is_shown(path: Path, server: str) -> None:
    message = refused(write_kubeconfig(path, server, {}))
    assert f"cluster 'c' of {path} has server: {server!r}" in message


def test_key_and_certificate_come_together(path: Path) -> None:
    data = base64.b64encode(SECRET.encode()).decode()
    assert "has a client-key and no client-certificate" in refused(
        write_kubeconfig(path, SERVER, {"client-key-data": data})
    )
    assert "has a client-certificate and no client-key" in refused(
        write_kubeconfig(path, SERVER, {"client-certificate-data": data})
    )


def test_broken_base64_is_told_by_entry(path: Path) -> None:
    user = {"client-certificate-data": "???", "client-key-data": "???"}
    assert f"the client certificate of user 'u' of {path} is not base64" in refused(
        write_kubeconfig(path, SERVER, user)
    )


def test_absent_authority_is_named(path: Path) -> None:
    broken = write_kubeconfig(path, SERVER, {}, **{"certificate-authority": "ca.crt"})
    assert (
        refused(broken)
        == f"cannot read the certificate authority {path.parent / 'ca.crt'}: No such file or directory; "
        f"cluster 'c' of {path} names it"
    )


def test_what_is_not_supported_says_what_to_do(path: Path) -> None:
    assert "use an exec plugin or a token" in refused(
        write_kubeconfig(path, SERVER, {"auth-provider": {"name": "oidc", "config": {"id-token": SECRET}}})
    )
    exec_ = {"command": "plugin", "apiVersion": "v1", "interactiveMode": "Always"}
    assert "wants a terminal" in refused(write_kubeconfig(path, SERVER, {"exec": exec_}))
    assert "only http:// and https:// proxies" in refused(
        write_kubeconfig(path, SERVER, {}, **{"proxy-url": f"socks5://me:{SECRET}@proxy.example"})
    )


# ------------------------------------------------------------------------------------------- where it is looked for


def test_the_environment_names_several_files_and_the_first_wins(tmp_path: Path) -> None:
    one = config(tmp_path / "one", current_context="", users=[{"name": "u", "user": {"token": "of-one"}}], clusters=[])
    two = config(tmp_path / "two", users=[{"name": "u", "user": {"token": "of-two"}}])
    environment = {"KUBECONFIG": f"{one}:{tmp_path / 'absent'}::{two}"}
    access = find_access(None, None, environment)
    assert (access.server, access.user.token) == (SERVER, "of-one")


def test_absent_file_of_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=f"cannot read the kubeconfig {tmp_path}/absent"):
        find_access(None, None, {"KUBECONFIG": f"{tmp_path}/absent", "HOME": str(tmp_path)})


def test_usual_place_is_below_home(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    config(tmp_path / ".kube" / "config")
    assert find_access(None, None, {"HOME": str(tmp_path)}).server == SERVER


@pytest.mark.parametrize(
    ("server", "direct", "proxied"),
    [
        ("https://one.example:6443", "", True),
        ("https://one.example:6443", "other.example,.sub.one.example", True),
        ("https://one.example:6443", "other.example, .example", False),
        ("https://10.1.2.3:443", "192.168.0.0/16,10.0.0.0/8", False),
        ("https://11.1.2.3:443", "192.168.0.0/16,10.0.0.0/8", True),
        ("https://[fd00::1]:443", "fd00::/8", False),
        ("https://127.0.0.1:6443", "", False),
        ("https://localhost:6443", "", False),
        ("http://one.example:8080", "", False),
    ],
)
def test_proxy_of_the_environment(path: Path, server: str, direct: str, *, proxied: bool) -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": direct}
    access = find_access(write_kubeconfig(path, server, {}), None, environment)
    assert access.proxy == ("http://proxy.example:3128" if proxied else None)


def test_pod_finds_its_own(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(b"ca")
    environment = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = find_access(None, None, environment, tmp_path)
    assert (access.server, access.ca, access.user.token) == ("https://10.0.0.1:6443", b"ca", tmp_path / "token")
    six = find_access(None, None, {**environment, "KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert six.server == "https://[fd00::1]:6443"


def test_pod_without_a_token_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="automountServiceAccountToken"):
        find_access(None, None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


def test_nothing_at_all_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"give --kubeconfig FILE, or set KUBECONFIG"):
        find_access(None, None, {"HOME": str(tmp_path)})
