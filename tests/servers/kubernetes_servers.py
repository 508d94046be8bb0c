#!/usr/bin/env python3
"""Real Kubernetes servers on loopback: etcd, kube-apiserver and kube-controller-manager, for tests and trials.

kubernetes_servers.py build                      build them, or say where they are already
kubernetes_servers.py up --directory DIR         start them; they end with Ctrl-C

`start` does the same for a program. The servers run under a guard, a process of its own: it ends them when it is
told to, when one of them ends unasked, and when its owner is gone, however that came about. Needs Linux and
`cryptography`.
"""

import argparse
import base64
import contextlib
import ctypes
import fcntl
import hashlib
import http
import http.client
import ipaddress
import json
import os
import platform
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, TypeAlias
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

MODULE = Path(__file__).with_name("kubernetes")
"""The Go module that is all three servers in one binary."""
PROGRAM = "kubernetes-servers"
ETCD, API_SERVER, CONTROLLER_MANAGER = NAMES = ("etcd", "kube-apiserver", "kube-controller-manager")
STATE = "servers.json"
ADMIN = "admin"
READY_S = 60.0
"""How long a server may take until it answers; 5 s are usual."""
STOP_S = 5.0
"""How long a server may take to end when asked; then it is killed."""
TMPFS = Path("/dev/shm")
DATA = "tidelog-etcd"
"""Beginning of the name of the directory with etcd's data."""
TMPFS_FREE_MIN = 1 << 30
"""etcd takes 64 MiB at once for its write-ahead log: a container's usual 64 MiB of /dev/shm are too few."""
GARBAGE_PERCENT = "400"
"""How much garbage the servers let come together, of what they hold: Go's own 100 costs an eighth of their CPU."""
START_ATTEMPTS = 3
"""A port that was free a moment ago may be taken when the API server asks for it."""
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Json: TypeAlias = dict[str, Any]


class ServersError(Exception):
    """Raised when the servers cannot be found, built or started; the message says what to do."""


# ------------------------------------------------------------------------------------------------ binaries


def find() -> dict[str, list[str]]:
    """The command of each server: from `KUBEBUILDER_ASSETS`, or as built before.

    Raises:
        ServersError: when there are none yet.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return _from_assets(Path(assets))
    program = built()
    if not program.is_file():
        raise ServersError("the Kubernetes servers are not built yet: run `make servers` (six to ten minutes, once)")
    return {name: [str(program), name] for name in NAMES}


def can_build() -> bool:
    """Whether there is a Go to build them with."""
    return shutil.which("go") is not None


def built() -> Path:
    """Where the binary of this version of the Go module is, or will be: outside the tree, shared by checkouts."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()} {_flags_of_linker()}\n".encode())
    for path in sorted(MODULE.iterdir()):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return cache / "tidelog" / "test-servers" / digest.hexdigest()[:16] / PROGRAM


def build(out: IO[str]) -> Path:
    """Builds the servers unless they are there; says on `out` what it does. Waits while another process builds.

    Raises:
        ServersError: when there is no Go, or the build fails.
    """
    program = built()
    if program.is_file():
        return program
    if not can_build():
        raise ServersError(
            "to build the Kubernetes servers, Go 1.25 or newer is needed; or let KUBEBUILDER_ASSETS name a folder with "
            + ", ".join(NAMES)
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another process builds the Kubernetes servers; waiting for it.", file=out, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            _go_build(program, out)
    return program


def _from_assets(folder: Path) -> dict[str, list[str]]:
    absent = [name for name in NAMES if not os.access(folder / name, os.X_OK)]
    if absent:
        raise ServersError(
            f"KUBEBUILDER_ASSETS is {folder}, and there is no {' and no '.join(absent)} in it: add what is missing "
            "(setup-envtest brings no controller manager), or unset the variable to have them built"
        )
    return {name: [str(folder / name)] for name in NAMES}


def _go_build(program: Path, out: IO[str]) -> None:
    print(
        "Building etcd, kube-apiserver and kube-controller-manager from source, once: six to ten minutes on two cores "
        f"the first time.\nThe result is kept in {program.parent}.",
        file=out,
        flush=True,
    )
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    deps = ["go", "list", "-deps", "."]
    listed = subprocess.run(deps, cwd=MODULE, env=environment, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise ServersError(f"Go cannot read the modules of the Kubernetes servers:\n{listed.stderr.strip()[-2000:]}")
    new = program.with_suffix(".new")
    command = ["go", "build", "-v", "-trimpath", "-ldflags", _flags_of_linker(), "-o", str(new), "."]
    with subprocess.Popen(command, cwd=MODULE, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said = _follow_build(process, len(listed.stdout.split()), out)
    if process.returncode:
        raise ServersError("`go build` of the Kubernetes servers failed:\n" + "\n".join(said[-20:]))
    new.rename(program)
    print(f"Built: {program}", file=out, flush=True)


def _flags_of_linker() -> str:
    """Without symbols, and with the version: the servers would call themselves v0.0.0-master."""
    lines = (MODULE / "go.mod").read_text().splitlines()
    (version,) = {line.split()[1] for line in lines if line.startswith("\tk8s.io/kubernetes v")}
    major, minor, _ = version.removeprefix("v").split(".")
    names = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(
        ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in names.items())]
    )


def _follow_build(process: subprocess.Popen[str], total: int, out: IO[str]) -> list[str]:
    """Counts what the compiler says (`-v` names each package), a line every 15 s."""
    said: list[str] = []
    began = shown = time.monotonic()
    for line in process.stderr or ():
        said.append(line.rstrip())
        now = time.monotonic()
        if now - shown > 15:
            shown = now
            print(f"  {now - began:4.0f} s: package {len(said)} of at most {total}", file=out, flush=True)
    return said


# -------------------------------------------------------------------------------------------- certificates


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives in files; clients' certificates can be made from it at any time."""

    certificate_file: Path
    key_file: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        """A new one, with its certificate in `ca.crt` and its key in `ca.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("tidelog test authority")
        certificate = (
            _certificate(name, name, key.public_key(), timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        made = cls(directory / "ca.crt", directory / "ca.key")
        made.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(made.key_file, key)
        return made

    def client(self, user: str, groups: Sequence[str] = (), lifetime: timedelta = timedelta(days=365)) -> "Credential":
        """A certificate that Kubernetes takes for `user` in `groups`; a negative lifetime makes an expired one."""
        return self._issue(_name(user, groups), lifetime, [ExtendedKeyUsageOID.CLIENT_AUTH], ())

    def server(self, *names: str, lifetime: timedelta = timedelta(days=365)) -> "Credential":
        """A certificate for 127.0.0.1, localhost and `names`; a negative lifetime makes an expired one."""
        return self._issue(
            _name("tidelog test server"), lifetime, [ExtendedKeyUsageOID.SERVER_AUTH], ("localhost", *names)
        )

    def _issue(
        self,
        subject: x509.Name,
        lifetime: timedelta,
        usages: list[x509.ObjectIdentifier],
        hosts: Sequence[str],
    ) -> "Credential":
        authority = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        authority_key = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _certificate(subject, authority.subject, key.public_key(), lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if hosts:
            loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(
                x509.SubjectAlternativeName([loopback, *map(x509.DNSName, hosts)]), critical=False
            )
        certificate = builder.sign(authority_key, hashes.SHA256())
        return Credential(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


class Credential(NamedTuple):
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


def _name(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begins = now - timedelta(hours=1) + min(lifetime, timedelta())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Not PKCS #8: the API server reads no such key of service accounts.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(_pem(key))


# --------------------------------------------------------------------------------- the servers, from outside


class Answer(NamedTuple):
    """What the API server answered."""

    status: int
    body: Json


@dataclass(frozen=True)
class Servers:
    """Running servers, as whoever uses them sees them."""

    directory: Path
    url: str
    token: str
    """Of the user `admin`, who may do everything, as does the certificate in `kubeconfig`."""

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """The servers that were started in `directory`."""
        state = json.loads((directory / STATE).read_bytes())
        return cls(directory, state["url"], state["token"])

    @property
    def kubeconfig(self) -> Path:
        """The administrator's: context `admin` (current) has a client certificate, `admin-token` a token."""
        return self.directory / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """The audit log, JSON lines: a line each request when it is complete, and one when a watch begins."""
        return self.directory / "audit.log"

    @property
    def authority(self) -> Authority:
        """Signs the server's certificate and those of clients."""
        return Authority(self.directory / "ca.crt", self.directory / "ca.key")

    def kubeconfig_of(self, user: str, groups: Sequence[str] = (), **certificate: timedelta) -> Path:
        """Writes a kubeconfig for somebody who shows a client certificate, and gives its path."""
        digest = hashlib.sha256(repr((user, groups, certificate)).encode()).hexdigest()[:12]
        path = self.directory / f"kubeconfig-{digest}"
        credential = self.authority.client(user, groups, **certificate)
        path.touch(mode=0o600)
        path.write_text(json.dumps(kubeconfig(self.url, self.authority, {user: _certificate_user(credential)})))
        return path

    def request(
        self,
        method: str,
        path: str,
        body: Json | list[Json] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """One request of the administrator; for preparing and checking what a test is about."""
        where = urlsplit(self.url)
        assert where.hostname
        tls = ssl.create_default_context(cafile=str(self.authority.certificate_file))
        connection = http.client.HTTPSConnection(where.hostname, where.port, context=tls, timeout=30)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type, "Accept": accept}
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(content))
        except ValueError:  # /readyz and its like
            return Answer(response.status, {"text": content.decode(errors="replace")})

    def audited(self, user: str) -> list[Json]:
        """The requests of `user` (before impersonation) that are complete, oldest first, from the audit log.

        An answer may be here a moment before its line in the log.
        """
        name = json.dumps(user).encode()
        with self.audit_log.open("rb") as lines:
            # Of all tests: most lines are about others, and are not worth reading.
            entries = [json.loads(line) for line in lines if name in line and line.endswith(b"\n")]
        return [e for e in entries if e["user"].get("username") == user and e["stage"] == "ResponseComplete"]

    def audited_bytes(self) -> int:
        """How long the audit log is."""
        return self.audit_log.stat().st_size

    def has_audited(self, text: str, since: int = 0) -> bool:
        """Whether something stands in the audit log, from a length on that it had."""
        with self.audit_log.open("rb") as log:
            log.seek(since)
            return text.encode() in log.read()

    def is_ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        try:
            return self.request("GET", "/readyz").status == 200
        except OSError:
            return False

    def wait_ready(self) -> None:
        """Blocks until the API server is ready.

        Raises:
            ServersError: when that takes longer than `READY_S`.
        """
        _wait(self.is_ready, f"{self.url} does not become ready; {_tail(self.directory, API_SERVER)}")


class OwnServers(Servers):
    """Servers of one test's own, which may be stopped and started."""

    def __init__(self, servers: Servers, guard: subprocess.Popen[str]) -> None:
        super().__init__(servers.directory, servers.url, servers.token)
        object.__setattr__(self, "_guard", guard)

    def stop(self, name: str = API_SERVER) -> None:
        """Asks a server to end, and waits until it has."""
        self._tell("stop", name)

    def kill(self, name: str = API_SERVER) -> None:
        """Kills a server (SIGKILL), and waits until it is gone."""
        self._tell("kill", name)

    def start(self, name: str = API_SERVER) -> None:
        """Starts a server that was stopped, at the address that it had, and waits until the API server is ready."""
        self._tell("start", name)
        self.wait_ready()

    def trust(self, issuer: Servers, audience: str, prefix: str) -> None:
        """From now on takes the tokens of another cluster's ServiceAccounts that are for an audience.

        Args:
            issuer: the other cluster; from now on it tells everybody the keys that it signs tokens with.
            audience: whom a token has to be for.
            prefix: of the names of those accounts here.
        """
        answer = issuer.request("POST", f"{RBAC}/clusterrolebindings", KEYS_FOR_ALL)
        assert answer.status in (201, 409), answer
        mapping = {"username": {"claim": "sub", "prefix": prefix}}
        who = {
            "url": ISSUER,
            "discoveryURL": f"{issuer.url}/.well-known/openid-configuration",
            "certificateAuthority": issuer.authority.certificate_file.read_text(),
            "audiences": [audience],
        }
        config = {"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration"}
        jwt = [{"issuer": who, "claimMappings": mapping}]
        (self.directory / TRUSTED).write_text(json.dumps(config | {"jwt": jwt}))
        self.stop()
        self.start()

    def forget(self) -> None:
        """Has etcd forget all revisions but the last, and the API server its cache."""
        guard: subprocess.Popen[str] = self._guard  # type: ignore[attr-defined]
        connection = _UnixConnection(_socket_of_etcd(guard.pid))
        self.stop()
        try:
            revision = connection.ask("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
            connection.ask("/v3/kv/compaction", {"revision": revision, "physical": True})
        finally:
            connection.close()
        self.start()

    def _tell(self, *words: str) -> None:
        guard: subprocess.Popen[str] = self._guard  # type: ignore[attr-defined]
        answer = _ask(guard, " ".join(words))
        if answer != "done":
            raise ServersError(f"{' '.join(words)}: {answer}; {_tail(self.directory, words[-1])}")


class _UnixConnection(http.client.HTTPConnection):
    """To etcd, whose API is there as JSON too."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def ask(self, path: str, body: Json) -> Json:
        """One question."""
        self.request("POST", path, json.dumps(body))
        response = self.getresponse()
        content = response.read()
        if response.status != http.HTTPStatus.OK:
            raise ServersError(f"etcd: {path}: {response.status}: {content.decode(errors='replace')}")
        answer: Json = json.loads(content)
        return answer


@contextlib.contextmanager
def start(directory: Path) -> Iterator[OwnServers]:
    """Starts servers, with all that they write but etcd's data in `directory`; they end with the context.

    Raises:
        ServersError: when there is no binary (see `build`), or they do not start.
    """
    guard = launch(directory, owner=os.getpid(), controlled=True)
    try:
        assert guard.stdout
        if guard.stdout.readline().strip() != "ready":
            raise ServersError(_why_not(directory))
        yield OwnServers(Servers.attach(directory), guard)
    finally:
        # The end of its standard input ends it.
        guard.communicate()


def launch(directory: Path, *, owner: int, controlled: bool = False) -> subprocess.Popen[str]:
    """Starts a guard, which starts the servers; does not wait for them. They end with the process `owner`."""
    directory.mkdir(parents=True, exist_ok=True)
    find()
    command = [sys.executable, str(Path(__file__).resolve()), "up", "--directory", str(directory)]
    command += ["--owner", str(owner), *(["--controlled"] if controlled else [])]
    pipe = subprocess.PIPE if controlled else subprocess.DEVNULL
    with (directory / "guard.log").open("w") as log:
        # A group of its own: Ctrl-C is for the owner to handle, and would reach the servers before it.
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, process_group=0)


def _ask(guard: subprocess.Popen[str], line: str) -> str:
    assert guard.stdin
    assert guard.stdout
    guard.stdin.write(line + "\n")
    guard.stdin.flush()
    return guard.stdout.readline().strip() or "the guard is gone"


def _why_not(directory: Path) -> str:
    return "the Kubernetes servers did not start:\n" + (directory / "guard.log").read_text().strip()


def _tail(directory: Path, name: str) -> str:
    path = directory / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-15:] if path.exists() else []
    return f"the end of {path}:\n" + "\n".join(lines)


def kubeconfig(url: str, authority: Authority, users: dict[str, Json]) -> Json:
    """A kubeconfig with a context for each user; JSON, which is YAML."""
    ca = base64.b64encode(authority.certificate_file.read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "loopback", "cluster": {"server": url, "certificate-authority-data": ca}}],
        "users": [{"name": name, "user": user} for name, user in users.items()],
        "contexts": [{"name": name, "context": {"cluster": "loopback", "user": name}} for name in users],
        "current-context": next(iter(users)),
    }


def _certificate_user(credential: Credential) -> Json:
    return {
        "client-certificate-data": base64.b64encode(credential.certificate).decode(),
        "client-key-data": base64.b64encode(credential.key).decode(),
    }


# ---------------------------------------------------------------------------------- the servers, from inside


class Guard:
    """Starts the servers, and ends them; the one process whose children they are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._commands = find()
        self._data = directory_of_process(_quick_disk(), DATA, os.getpid())
        self._port = 0
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def open(self) -> None:
        """Starts all servers and writes the state for `Servers.attach` when they are ready.

        Raises:
            ServersError: when one of them does not start.
        """
        self._prepare()
        self.start(ETCD)
        servers = self._start_api_server()
        self.start(CONTROLLER_MANAGER)
        state = {"url": servers.url, "token": servers.token, "guard": os.getpid()}
        new = self._directory / f"{STATE}.new"
        new.write_text(json.dumps(state))
        new.rename(self._directory / STATE)

    def close(self) -> None:
        """Ends all servers and removes etcd's data."""
        (self._directory / STATE).unlink(missing_ok=True)
        for name in reversed(NAMES):
            self.end(name, signal.SIGTERM)
        shutil.rmtree(self._data, ignore_errors=True)

    def start(self, name: str) -> None:
        """Starts one server; does not wait until it answers."""
        if name in self._running:
            raise ServersError(f"{name} runs already")
        command = [*self._commands[name], *getattr(self, "_flags_of_" + name.replace("-", "_"))()]
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "GOGC": GARBAGE_PERCENT},
                process_group=0,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - two system calls, nothing that takes a lock
            )

    def end(self, name: str, with_signal: signal.Signals) -> None:
        """Ends one server and waits until it is gone; killed when it takes longer than `STOP_S`."""
        process = self._running.pop(name, None)
        if process is None:
            return
        process.send_signal(with_signal)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def check(self) -> None:
        """Notices a server that ended unasked.

        Raises:
            ServersError: when one did.
        """
        name = self.ended()
        if name:
            raise ServersError(f"{name} ended unasked; {_tail(self._directory, name)}")

    def ended(self) -> str | None:
        """The name of a server that ended unasked, if one did."""
        return next((name for name, process in self._running.items() if process.poll() is not None), None)

    def _prepare(self) -> None:
        authority = Authority.make(self._directory)
        credential = authority.server("kubernetes", "kubernetes.default", "kubernetes.default.svc")
        (self._directory / "server.crt").write_bytes(credential.certificate)
        self._secret("server.key").write_bytes(credential.key)
        _write_key(self._directory / "service-accounts.key", ec.generate_private_key(ec.SECP256R1()))
        self._token = base64.urlsafe_b64encode(os.urandom(24)).decode()
        self._secret("tokens.csv").write_text(f'{self._token},{ADMIN},{ADMIN},"system:masters"\n')
        (self._directory / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
        self._admin = authority.client(ADMIN, ["system:masters"])
        self._manager = authority.client("system:kube-controller-manager", ["system:masters"])

    def _secret(self, name: str) -> Path:
        path = self._directory / name
        path.touch(mode=0o600)
        return path

    def _start_api_server(self) -> Servers:
        for _ in range(START_ATTEMPTS):
            self._port = _free_port()
            servers = Servers(self._directory, f"https://127.0.0.1:{self._port}", self._token)
            users = {ADMIN: _certificate_user(self._admin), "admin-token": {"token": self._token}}
            self._write_kubeconfig("kubeconfig", servers, users)
            self._write_kubeconfig(
                "kubeconfig-manager", servers, {CONTROLLER_MANAGER: _certificate_user(self._manager)}
            )
            self.start(API_SERVER)
            if self._wait_ready(servers):
                return servers
            self._running.pop(API_SERVER)
        raise ServersError(f"{API_SERVER} ended at its start; {_tail(self._directory, API_SERVER)}")

    def _wait_ready(self, servers: Servers) -> bool:
        """False when the API server ended instead."""
        _wait(
            lambda: servers.is_ready() or self.ended() is not None,
            f"{API_SERVER} does not become ready; {_tail(self._directory, API_SERVER)}",
        )
        ended = self.ended()
        if ended not in {None, API_SERVER}:
            raise ServersError(f"{ended} ended at its start; {_tail(self._directory, str(ended))}")
        return ended is None

    def _write_kubeconfig(self, name: str, servers: Servers, users: dict[str, Json]) -> None:
        self._secret(name).write_text(json.dumps(kubeconfig(servers.url, servers.authority, users)))

    def _flags_of_etcd(self) -> list[str]:
        return [
            "--name=default",
            f"--data-dir={self._data}/etcd",
            f"--listen-client-urls=unix://{self._data}/etcd.sock",
            "--advertise-client-urls=http://127.0.0.1:1",  # told to members of a cluster, of which there are none
            "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _flags_of_kube_apiserver(self) -> list[str]:
        here = self._directory
        trusted = here / TRUSTED
        # Whoever takes the tokens of another cluster must not be called as that is.
        return [
            *([f"--authentication-config={trusted}"] if trusted.exists() else []),
            f"--etcd-servers=unix://{self._data}/etcd.sock",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--tls-cert-file={here}/server.crt",
            f"--tls-private-key-file={here}/server.key",
            f"--client-ca-file={here}/ca.crt",
            f"--token-auth-file={here}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            f"--service-account-issuer={ISSUER}"
            if not trusted.exists()
            else f"--service-account-issuer={OTHER_ISSUER}",
            f"--service-account-key-file={here}/service-accounts.key",
            f"--service-account-signing-key-file={here}/service-accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            f"--audit-policy-file={here}/audit-policy.json",
            f"--audit-log-path={here}/audit.log",
            "--profiling=false",
        ]

    def _flags_of_kube_controller_manager(self) -> list[str]:
        here = self._directory
        return [
            f"--kubeconfig={here}/kubeconfig-manager",
            f"--service-account-private-key-file={here}/service-accounts.key",
            f"--root-ca-file={here}/ca.crt",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ]


ISSUER = "https://kubernetes.default.svc"
"""Of the tokens of ServiceAccounts."""
OTHER_ISSUER = "https://other.default.svc"
TRUSTED = "authentication.json"
"""Whose tokens are taken besides."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
KEYS_FOR_ALL: Json = {
    "metadata": {"name": "keys-for-all"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:service-account-issuer-discovery",
    },
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
}
AUDIT_POLICY: Json = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    # The controllers' own requests would be the most of it.
    "rules": [
        {"level": "None", "users": ["system:kube-controller-manager", "system:apiserver"]},
        {"level": "Metadata"},
    ],
}


def guard(directory: Path, owner: int | None, *, controlled: bool) -> int:
    """Runs the servers until told to end; the exit code."""
    for number in ENDING:
        signal.signal(number, _end)
    if owner is not None:
        threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    servers = Guard(directory)
    try:
        servers.open()
        signal.signal(signal.SIGCHLD, lambda *_: servers.check())
        servers.check()
        print("ready", flush=True)
        if controlled:
            for line in sys.stdin:
                _obey(servers, line.split())
        else:
            while True:
                signal.pause()
    except _End:
        pass
    except ServersError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN if number in ENDING else signal.SIG_DFL)
        servers.close()
    return 0


class _End(BaseException):
    """The guard was asked to end."""


def _end(*_: object) -> None:
    raise _End


def _obey(servers: Guard, words: list[str]) -> None:
    command, name = words
    try:
        if command == "start":
            servers.start(name)
        else:
            servers.end(name, signal.SIGTERM if command == "stop" else signal.SIGKILL)
    except ServersError as error:
        print(" ".join(str(error).split()), flush=True)
    else:
        print("done", flush=True)


def _end_with(owner: int) -> None:
    """Blocks until the process `owner` is gone, however it ended, then ends the guard."""
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(owner)], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def _die_with_parent() -> None:
    """In the child: the kernel ends it with the guard, even if that is killed."""
    parent = os.getppid()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def directory_of_process(parent: Path, name: str, pid: int) -> Path:
    """`<parent>/<name>-<pid>`, made if need be; removes what processes left that were killed before they could."""
    for path in parent.glob(f"{name}-*"):
        if not Path("/proc", path.name.rpartition("-")[2]).exists():
            shutil.rmtree(path, ignore_errors=True)
    path = parent / f"{name}-{pid}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def _socket_of_etcd(pid: int) -> Path:
    """Of the servers that a process runs."""
    places = (parent / f"{DATA}-{pid}" / "etcd.sock" for parent in (TMPFS, Path(tempfile.gettempdir())))
    return next(path for path in places if path.exists())


def _quick_disk() -> Path:
    """Memory, where there is enough of it: etcd is the slowest of the three on a disk."""
    if os.access(TMPFS, os.W_OK) and shutil.disk_usage(TMPFS).free > TMPFS_FREE_MIN:
        return TMPFS
    return Path(tempfile.gettempdir())


def _wait(holds: Any, otherwise: str) -> None:
    until = time.monotonic() + READY_S
    while not holds():
        if time.monotonic() > until:
            raise ServersError(otherwise)
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------- command line


def main() -> int:
    """Runs the command that the arguments name; the exit code."""
    parser = argparse.ArgumentParser(description="Real Kubernetes servers on loopback, for tests and trials.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the servers, unless KUBEBUILDER_ASSETS names them or they are built")
    up = commands.add_parser("up", help="start the servers")
    up.add_argument("--directory", type=Path, required=True, help="for kubeconfig, certificates and logs")
    up.add_argument("--owner", type=int, help="end with this process")
    up.add_argument("--controlled", action="store_true", help="take commands from the standard input, end with it")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            if not os.environ.get("KUBEBUILDER_ASSETS"):
                build(sys.stderr)
            find()
            return 0
        directory: Path = arguments.directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if not arguments.controlled and arguments.owner is None:
            print(f"export KUBECONFIG={directory / 'kubeconfig'}", flush=True)
        return guard(directory, arguments.owner, controlled=arguments.controlled)
    except ServersError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
