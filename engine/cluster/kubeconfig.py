"""Which API server to talk to, and as whom: a kubeconfig file's words, or those that a pod finds in its own files.

kubectl's rules, but for what reads badly when it goes wrong: every error is one `KubeconfigError` that names file and
entry and says what to do, and no error shows a value. Not supported, because kubectl is about to drop it or has:
`auth-provider` (an `exec` plugin does the same).
"""

import base64
import binascii
import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import msgspec
import yaml
from msgspec import Struct

from tidelog.engine.cluster.errors import KubeconfigError, NoClusterError
from tidelog.events.typed import converter

POD_FILES = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has its service account's token and the cluster's certificate authority."""
OTHER_FILE = "name another one with --kubeconfig, or in KUBECONFIG"
"""What to do where a file is not what it should be."""
EMBEDDED = "tidelog.dev/embedded-cluster"
"""The extension of a cluster's entry that says that it is an embedded one."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FILE_MAX_BYTES = 16 << 20
"""More is no kubeconfig, certificate or token."""


class Exec(Struct, frozen=True):
    """A program that gives credentials (`client.authentication.k8s.io`)."""

    argv: tuple[str, ...]
    api_version: str
    environment: dict[str, str]
    cluster_info: dict[str, Any] | None
    hint: str

    def __repr__(self) -> str:
        return f"Exec({self.argv[0]!r})"  # Arguments and environment may hold secrets.


class User(Struct, frozen=True):
    """Where credentials come from; what is given as bytes does not change, files are read again now and then."""

    certificate: bytes | Path | None = None
    key: bytes | Path | None = None
    token: str | Path | None = None
    basic: tuple[str, str] | None = None
    exec: Exec | None = None
    act_as: tuple[str, tuple[str, ...]] | None = None

    def __repr__(self) -> str:
        return "User(…)"


class Called(Struct, frozen=True):
    """What it is called where it is written how an API server is reached, for messages."""

    server: str = "server"
    authority: str = "certificate-authority"
    name: str = "tls-server-name"
    """Of the name that the server's certificate has to have; empty where none can be given."""


class Access(Struct, frozen=True):
    """How an API server is reached."""

    origin: str
    """Where this was found, for messages: `context 'dev' of config.yaml`."""
    server: str
    """The URL, without a slash at its end."""
    user: User
    ca: bytes | None = None
    """PEM certificates to trust; None for those of the system."""
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None
    embedded: bool = False
    """Whether it is an embedded cluster's, which is there as long as the process that serves it."""
    called: Called = Called()

    def __repr__(self) -> str:
        return f"Access({self.origin}: {self.server})"  # A proxy's URL may hold a password.


def find_access(
    kubeconfig: Path | None,
    context: str | None,
    environment: Mapping[str, str] | None = None,
    pod_files: Path = POD_FILES,
) -> Access:
    """As kubectl looks for it: the file that is named, else `KUBECONFIG`, else `~/.kube/config`, else the pod's files.

    Blocks; for a worker thread.

    Raises:
        NoClusterError: when there is none.
        KubeconfigError: when it cannot be used.
    """
    environment = os.environ if environment is None else environment
    paths = _paths(kubeconfig, environment)
    if paths:
        return _from_files(paths, context, environment)
    if environment.get("KUBERNETES_SERVICE_HOST") and not context:
        return _from_pod(environment, pod_files)
    raise NoClusterError(
        "no cluster is named: give --kubeconfig FILE, or set KUBECONFIG; there is no ~/.kube/config, and this is no pod"
    )


def read_file(path: Path, what: str, hint: str) -> bytes:
    """A file that a kubeconfig names, or that file itself; `hint` says who names it, or what to do.

    Raises:
        KubeconfigError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise KubeconfigError(f"cannot read {what} {path}: {error.strerror or error}; {hint}") from error
    if len(content) > FILE_MAX_BYTES:
        raise KubeconfigError(f"{what} {path} has more than {FILE_MAX_BYTES >> 20} MiB: it cannot be meant")
    return content


# --------------------------------------------------------------------------------------------- kubeconfig files


class _Extension(Struct):
    name: str = ""


class _Cluster(Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None
    extensions: list[_Extension] | None = None


class _EnvironmentEntry(Struct):
    name: str
    value: str


class _Exec(Struct, rename="camel"):
    command: str
    api_version: str
    args: list[str] | None = None
    env: list[_EnvironmentEntry] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"


class _User(Struct, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    exec: _Exec | None = None
    auth_provider: dict[str, Any] | None = None
    impersonate: str | None = msgspec.field(default=None, name="as")
    impersonate_groups: list[str] | None = msgspec.field(default=None, name="as-groups")


class _Context(Struct):
    cluster: str = ""
    user: str = ""


class _NamedCluster(Struct):
    name: str
    cluster: _Cluster


class _NamedUser(Struct):
    name: str
    user: _User | None = None


class _NamedContext(Struct):
    name: str
    context: _Context


class _Config(Struct, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


class _Loaded(Struct):
    """A kubeconfig, and where it is from."""

    where: str
    """For messages."""
    folder: Path
    """Where relative paths begin."""
    config: _Config


def _paths(kubeconfig: Path | None, environment: Mapping[str, str]) -> list[Path]:
    if kubeconfig is not None:
        return [kubeconfig]
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(":") if part]
    if named:
        # kubectl passes over those that are not there; with none left, the first is the one to complain about.
        return [path for path in named if path.exists()] or named[:1]
    home = environment.get("HOME")
    usual = Path(home) / ".kube" / "config" if home else None
    return [usual] if usual and usual.exists() else []


def _from_files(paths: Sequence[Path], context: str | None, environment: Mapping[str, str]) -> Access:
    files = [_load(path) for path in paths]
    origin, cluster, user = _chosen(files, ", ".join(map(str, paths)), context)
    return _access(origin, cluster, user, environment)


_Chosen: TypeAlias = tuple[str, tuple["_Loaded", _NamedCluster], tuple["_Loaded", _NamedUser] | None]
"""A context in words, its cluster, and its user."""


def _chosen(files: Sequence[_Loaded], where: str, context: str | None) -> _Chosen:
    """The context that is named, or else the current one."""
    name = context or next((file.config.current_context for file in files if file.config.current_context), None)
    if not name:
        raise KubeconfigError(
            f"{where} has no current-context: name one with --context, one of: {_names(files, 'contexts')}"
            if any(file.config.contexts for file in files)
            else f"{where} has no contexts: {OTHER_FILE}"
        )
    found = _find(files, "contexts", name)
    if found is None:
        raise KubeconfigError(f"{where} has no context {name!r}; its contexts: {_names(files, 'contexts')}")
    chosen = found[1].context
    cluster = _find(files, "clusters", chosen.cluster)
    if cluster is None:
        raise KubeconfigError(
            f"context {name!r} of {where} names the cluster {chosen.cluster!r}, which is not there; "
            f"its clusters: {_names(files, 'clusters')}"
        )
    user = _find(files, "users", chosen.user) if chosen.user else None
    if user is None and chosen.user:
        raise KubeconfigError(
            f"context {name!r} of {where} names the user {chosen.user!r}, which is not there; "
            f"its users: {_names(files, 'users')}"
        )
    return f"context {name!r} of {where}", cluster, user


def _access(
    origin: str,
    named_cluster: tuple[_Loaded, _NamedCluster],
    named_user: tuple[_Loaded, _NamedUser] | None,
    environment: Mapping[str, str],
) -> Access:
    cluster_file, entry = named_cluster
    cluster = entry.cluster
    ca = _bytes_or_path(
        cluster_file.folder,
        f"the certificate authority of cluster {entry.name!r}",
        cluster.certificate_authority_data,
        cluster.certificate_authority,
    )
    where = f"cluster {entry.name!r} of {cluster_file.where}"
    ca = read_file(ca, "the certificate authority", f"{where} names it") if isinstance(ca, Path) else ca
    server = _server(cluster.server, where)
    user = User()
    if named_user and named_user[1].user:
        user = _user(named_user[0], named_user[1].name, named_user[1].user, cluster, ca)
    return Access(
        origin=origin,
        server=server,
        user=user,
        ca=ca,
        verify=not cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
        proxy=_proxy(origin, server, cluster.proxy_url, environment),
        embedded=any(one.name == EMBEDDED for one in cluster.extensions or ()),
    )


def _user(file: _Loaded, name: str, entry: _User, cluster: _Cluster, ca: bytes | None) -> User:
    where = f"user {name!r} of {file.where}"
    if entry.auth_provider is not None:
        raise KubeconfigError(f"{where} has an auth-provider, which is not supported: use an exec plugin or a token")
    certificate = _bytes_or_path(
        file.folder, f"the client certificate of {where}", entry.client_certificate_data, entry.client_certificate
    )
    key = _bytes_or_path(file.folder, f"the client key of {where}", entry.client_key_data, entry.client_key)
    if (certificate is None) != (key is None):
        absent, there = ("client-key", "client-certificate") if key is None else ("client-certificate", "client-key")
        raise KubeconfigError(f"{where} has a {there} and no {absent}: both are needed")
    token: str | Path | None = entry.token or None
    if entry.token_file:
        token = file.folder / entry.token_file  # kubectl prefers it to `token`
    return User(
        certificate=certificate,
        key=key,
        token=token,
        basic=(entry.username, entry.password or "") if entry.username else None,
        exec=_exec(file.folder, where, entry.exec, cluster, ca) if entry.exec else None,
        act_as=(entry.impersonate, tuple(entry.impersonate_groups or ())) if entry.impersonate else None,
    )


def _exec(folder: Path, where: str, entry: _Exec, cluster: _Cluster, ca: bytes | None) -> Exec:
    if entry.interactive_mode == "Always":
        raise KubeconfigError(f"the exec plugin of {where} wants a terminal, and there is none: use another user")
    command = entry.command
    if os.sep in command:
        command = str(folder / command)
    info = None
    if entry.provide_cluster_info:
        info = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
            "certificate-authority-data": base64.b64encode(ca).decode() if ca else None,
            "proxy-url": cluster.proxy_url,
        }
        info = {key: value for key, value in info.items() if value}
    return Exec(
        argv=(command, *(entry.args or ())),
        api_version=entry.api_version,
        environment={each.name: each.value for each in entry.env or ()},
        cluster_info=info,
        hint=entry.install_hint.strip(),
    )


def _load(path: Path) -> _Loaded:
    content = read_file(path, "the kubeconfig", OTHER_FILE)
    return _Loaded(str(path), path.parent, _config(content, "the kubeconfig", str(path), OTHER_FILE))


def _config(content: bytes, what: str, where: str, hint: str) -> _Config:
    """What stands in a kubeconfig.

    Args:
        content: YAML.
        what: it is, for messages.
        where: it is from.
        hint: what to do where it is none.
    """
    try:
        document = yaml.load(content, Loader=_LOADER)  # noqa: S506 - both are safe
        if document is None:
            raise KubeconfigError(f"{what} {where} is empty: {hint}")
        if not isinstance(document, dict):
            raise KubeconfigError(f"{where} is no kubeconfig, which has clusters, users and contexts: {hint}")
        return converter(_Config)(document)
    except yaml.MarkedYAMLError as error:
        # The error's own text would show the line, which may hold a token.
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}" if mark else where
        raise KubeconfigError(f"{what} is no YAML: {place}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise KubeconfigError(f"{what} {where} is no YAML: {error}") from None
    except msgspec.ValidationError as error:
        raise KubeconfigError(f"{what} {where} cannot be used: {error}") from None
    except ValueError:  # of a scalar that is not what its tag, or its look, says: the error's own text would show it
        raise KubeconfigError(f"{what} {where} has a number or a date that is none: put texts into quotes") from None


def _find(files: Sequence[_Loaded], attribute: str, name: str) -> tuple[_Loaded, Any] | None:
    """The first entry of that name: earlier files win."""
    for file in files:
        for entry in getattr(file.config, attribute) or ():
            if entry.name == name:
                return file, entry
    return None


def _names(files: Sequence[_Loaded], attribute: str) -> str:
    names = (entry.name for file in files for entry in getattr(file.config, attribute) or ())
    return ", ".join(dict.fromkeys(names)) or "none"


def _bytes_or_path(folder: Path, what: str, data: str | None, file: str | None) -> bytes | Path | None:
    if data:
        try:
            return base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise KubeconfigError(f"{what} is not base64") from None
    return folder / file if file else None


def _server(text: str, where: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"https", "http"} and parts.hostname and parts.port != 0
        usable = usable and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise KubeconfigError(f"{where} has server: {text!r}; a URL is needed, such as https://kubernetes.example:6443")
    return text.rstrip("/")


def _proxy(origin: str, server: str, configured: str | None, environment: Mapping[str, str]) -> str | None:
    """As the kubeconfig says, else as the environment does (HTTPS_PROXY, NO_PROXY)."""
    if configured:
        try:
            scheme = urlsplit(configured).scheme
        except ValueError:  # its text would show the password
            raise KubeconfigError(f"{origin}: proxy-url: it is no address") from None
        if scheme not in {"http", "https"}:
            raise KubeconfigError(f"{origin}: proxy-url: only http:// and https:// proxies are supported")
        return configured
    parts = urlsplit(server)
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name) or environment.get(name.upper())
    direct = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if not proxy or _is_direct(parts.hostname or "", parts.netloc, direct):
        return None
    return proxy


def _is_direct(host: str, netloc: str, direct: str) -> bool:
    """Whether a host is reached without the proxy: as Go has it, loopback always is, and NO_PROXY may hold networks."""
    if host == "localhost" or (direct and proxy_bypass(netloc, {"no": direct})):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or any(address in network for network in _networks(direct))


def _networks(direct: str) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for part in direct.split(","):
        with suppress(ValueError):
            yield ipaddress.ip_network(part.strip(), strict=False)


# ------------------------------------------------------------------------------------ kubeconfigs of somebody else


CONTENT_BYTES_MAX: Final = 256 << 10
DEPTH_MAX: Final = 50
ADDRESS_SHOWN: Final = 200
HTTPS_PORT: Final = 443


class Trust(Struct, frozen=True):
    """What is used of a kubeconfig that somebody else wrote beyond what harms nobody but them."""

    exec: bool = False
    """Whether its programs are run."""
    insecure_tls: bool = False
    """Whether it may say that the server's certificate counts for nothing."""


def access_of(content: bytes, where: str, trust: Trust, environment: Mapping[str, str] | None = None) -> Access:
    """Of a kubeconfig that somebody else wrote, what can be used without harm (Flux contract CM-087).

    Files are this machine's, and not the writer's: they are left out, as is whom to act as. What was left out, the
    access says in `origin`, and so each error about it.

    Args:
        content: YAML.
        where: it is from, for messages.
        trust: what is used besides.
        environment: may name a proxy.

    Raises:
        KubeconfigError: when it cannot be used. Nothing of what stands in it is quoted but names and the server.
    """
    hint = "write one there, with what it needs in itself and not in files"
    try:
        _refuse_shape(content, where, hint)
    except (yaml.YAMLError, UnicodeDecodeError):
        raise KubeconfigError(f"{where} is no YAML: {hint}") from None
    file = _Loaded(where, Path("/"), _config(content, "the kubeconfig in", where, hint))
    _, (_, cluster), user = _chosen([file], where, None)
    left_out = [*_clean_cluster(cluster.cluster, trust), *([] if user is None else _clean_user(user[1].user, trust))]
    _refuse_password(cluster.cluster.server, where)
    origin = where if not left_out else f"{where} (without {', '.join(left_out)}, which is not used)"
    return _access(origin, (file, cluster), user, os.environ if environment is None else environment)


def access_to(address: str, ca: str, where: str, environment: Mapping[str, str] | None = None) -> Access:
    """How a server is reached of which somebody else wrote the address and the authority (Flux contract CM-088).

    As in Flux, an address without a scheme is one of https, and a path is left out; that, the access says in `origin`.

    Args:
        address: the URL.
        ca: PEM certificates to trust; empty for those of the system.
        where: both are from, for messages.
        environment: may name a proxy.

    Raises:
        KubeconfigError: when it cannot be used.
    """
    if len(ca) > CONTENT_BYTES_MAX:
        raise KubeconfigError(f"{where}: ca.crt: it has more than {CONTENT_BYTES_MAX >> 10} KiB")
    server, path = _of_address(address.strip(), where)
    origin = f"{where} (without the path of address, which is not used)" if path else where
    return Access(
        origin=origin,
        server=server,
        user=User(),
        ca=ca.encode() if ca.strip() else None,
        proxy=_proxy(where, server, None, os.environ if environment is None else environment),
        called=Called(server="address", authority="ca.crt", name=""),
    )


def _of_address(address: str, where: str) -> tuple[str, str]:
    """The server of an address, and the path that the address has."""
    if "@" in address:  # errors name the address: it may hold no secret
        raise KubeconfigError(
            f"{where}: address: it has credentials: leave them out, a ServiceAccount's token is shown"
        )
    with suppress(ValueError):
        parts = urlsplit(address if "://" in address else f"https://{address}")
        port = parts.port if parts.port is not None else HTTPS_PORT
        if parts.scheme == "https" and parts.hostname and port and not (parts.query or parts.fragment):
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"https://{host}:{port}", parts.path.strip("/")
    shown = address[:ADDRESS_SHOWN]
    raise KubeconfigError(
        f"{where}: address: {shown!r} is none of an API server, such as https://kubernetes.example:6443"
    )


def _refuse_shape(content: bytes, where: str, hint: str) -> None:
    """Refuses what a parser would take long for, or would end of: the depth of a text takes its stack."""
    if len(content) > CONTENT_BYTES_MAX:
        raise KubeconfigError(f"{where} has {len(content)} bytes; {CONTENT_BYTES_MAX} is the most")
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise KubeconfigError(f"{where} has YAML aliases, with which a short text can be of any length: {hint}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise KubeconfigError(f"{where} is nested deeper than {DEPTH_MAX} levels: {hint}")


def _clean_cluster(cluster: _Cluster, trust: Trust) -> Iterator[str]:
    if cluster.certificate_authority:
        cluster.certificate_authority = None
        yield "the file of certificate-authority"
    if cluster.insecure_skip_tls_verify and not trust.insecure_tls:
        cluster.insecure_skip_tls_verify = False
        yield "insecure-skip-tls-verify"


def _clean_user(user: _User | None, trust: Trust) -> Iterator[str]:
    if user is None:
        return
    for name in ("client_certificate", "client_key", "token_file"):
        if getattr(user, name):
            setattr(user, name, None)
            yield f"the file of {name.replace('_', '-')}"
    if user.exec is not None and not trust.exec:
        user.exec = None
        yield "exec"
    if user.auth_provider is not None:
        user.auth_provider = None
        yield "auth-provider"
    if user.impersonate:
        user.impersonate = user.impersonate_groups = None
        yield "as"


def _refuse_password(server: str, where: str) -> None:
    """Errors name the server: its address may hold no secret."""
    if "@" in server:
        raise KubeconfigError(f"{where} has credentials in the address of its server: give them to its user")


# ---------------------------------------------------------------------------------------------------- in a pod


def _from_pod(environment: Mapping[str, str], files: Path) -> Access:
    host = environment["KUBERNETES_SERVICE_HOST"]
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    token = files / "token"
    if not token.exists():
        raise KubeconfigError(
            f"this is a pod without a token of its service account ({token}): set automountServiceAccountToken, or "
            "give --kubeconfig FILE"
        )
    return Access(
        origin="the pod's service account",
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        user=User(token=token),
        ca=read_file(files / "ca.crt", "the cluster's certificate authority", "a pod has it from its service account"),
    )
