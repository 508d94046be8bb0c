"""A real OCI registry on loopback: the CNCF's, built from the Go module in `registry/`; and what pushes to it.

oci_registry.py build                            builds it, or says where it is already
"""

import argparse
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

MODULE = Path(__file__).with_name("registry")
PROGRAM = "registry"
START_S = 20.0
USER, PASSWORD = "ada", "open-sesame"
PASSWORD_LINE = f"{USER}:$2b$04$IOrYK43p6kIv3AXkfxVvyevOJ1nAjTc9XFI2v.XcIj1p7wFcik0Yy\n"
REFRESH_TOKEN = "a-token-that-is-exchanged-for-others"
ISSUER, SERVICE = "tests", "registry-of-the-tests"

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
FLUX_CONFIG = "application/vnd.cncf.flux.config.v1+json"
FLUX_CONTENT = "application/vnd.cncf.flux.content.v1.tar+gzip"

Auth: TypeAlias = Literal["none", "basic", "token"]


class RegistryError(Exception):
    """Raised when the registry cannot be found, built or started; the message says what to do."""


# ------------------------------------------------------------------------------------------------- binary


def built() -> Path:
    """Where the binary of this version of the Go module is, or will be: outside the tree, shared by checkouts."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}\n".encode())
    for path in sorted(MODULE.iterdir()):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return cache / "tidelog" / "test-servers" / digest.hexdigest()[:16] / PROGRAM


def can_build() -> bool:
    """Whether there is a Go to build it with."""
    return shutil.which("go") is not None


def build(out: IO[str]) -> Path:
    """Builds the registry unless it is there. Waits while another process builds.

    Raises:
        RegistryError: when there is no Go, or the build fails.
    """
    program = built()
    if program.is_file():
        return program
    if not can_build():
        raise RegistryError("to build the OCI registry of the tests, Go 1.25 or newer is needed")
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            print("Building the OCI registry of the tests, once: one to five minutes.", file=out, flush=True)
            new = program.with_suffix(".new")
            command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(new), "."]
            environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
            ran = subprocess.run(command, cwd=MODULE, env=environment, stderr=subprocess.PIPE, text=True, check=False)
            if ran.returncode:
                raise RegistryError(f"`go build` of the OCI registry failed:\n{ran.stderr.strip()[-2000:]}")
            new.rename(program)
    return program


# ------------------------------------------------------------------------------------------------- tokens


class TokenServer:
    """Gives tokens to who knows the password, and to who does not where `anonymous` says so."""

    def __init__(self, *, anonymous: bool = False, expires_s: int = 300) -> None:
        self.anonymous = anonymous
        self.expires_s = expires_s
        self.requests: list[str] = []
        """How each was asked for: `anonymous`, `basic` or `refresh`; with the scope."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        handler = type("Bound", (_TokenHandler,), {"tokens": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def certificate(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def issue(self, repository: str, *actions: str) -> str:
        """A token of JSON Web Signatures, with the certificate in its header."""
        now = int(time.time())
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "exp": now + max(self.expires_s, 60),
            "nbf": now - 60,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": [{"type": "repository", "name": repository, "actions": list(actions)}],
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class _TokenHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens: TokenServer

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        if given is None and not self.tokens.anonymous:
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]})
        elif given not in {None, _basic(USER, PASSWORD)}:
            self._answer(401, {"details": "incorrect username or password"})
        else:
            self._give("anonymous" if given is None else "basic", parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("refresh_token") != [REFRESH_TOKEN] or form.get("grant_type") != ["refresh_token"]:
            self._answer(401, {"details": "no such token"})
        else:
            self._give("refresh", form)

    def _give(self, how: str, asked: Mapping[str, list[str]]) -> None:
        scope = asked.get("scope", [""])[0]
        self.tokens.requests.append(f"{how} {scope}")
        _, name, actions = scope.split(":")
        assert asked.get("service") == [SERVICE], asked
        token = self.tokens.issue(name, *actions.split(","))
        self._answer(200, {"token": token, "expires_in": self.tokens.expires_s})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""


# ----------------------------------------------------------------------------------------------- registry


@dataclass(frozen=True)
class Pushed:
    """An artifact that a registry has."""

    digest: str
    layers: tuple[str, ...]
    manifest: bytes


@dataclass
class OciRegistry:
    """A running registry; it forgets everything when it ends."""

    host: str
    """With its port."""
    ca: bytes = b""
    """Of its certificate, PEM; nothing where it speaks plain HTTP."""
    auth: Auth = "none"
    tokens: TokenServer | None = None

    def url(self, name: str) -> str:
        return f"oci://{self.host}/{name}"

    def push(
        self,
        name: str,
        *layers: tuple[str, bytes],
        tag: str = "latest",
        annotations: Mapping[str, str] | None = None,
        config: tuple[str, bytes] = (FLUX_CONFIG, b"{}"),
        **more: Any,
    ) -> Pushed:
        """Pushes an artifact of these layers (media type, content)."""
        for _, content in (config, *layers):
            self.push_blob(name, content)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(*config),
            "layers": [descriptor(*layer) for layer in layers],
            **({"annotations": dict(annotations)} if annotations else {}),
            **more,
        }
        content = json.dumps(manifest).encode()
        self.push_manifest(name, tag, OCI_MANIFEST, content)
        return Pushed(digest_of(content), tuple(digest_of(layer) for _, layer in layers), content)

    def push_index(self, name: str, tag: str, *manifests: Mapping[str, Any], media_type: str = OCI_INDEX) -> str:
        """Pushes an index of these descriptors, and returns its digest."""
        content = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}).encode()
        self.push_manifest(name, tag, media_type, content)
        return digest_of(content)

    def push_blob(self, name: str, content: bytes) -> None:
        status, headers, body = self.request("POST", name, f"/v2/{name}/blobs/uploads/")
        assert status == 202, body
        parts = urlsplit(headers["Location"])
        path = f"{parts.path}?{parts.query}&digest={digest_of(content)}"
        status, _, body = self.request("PUT", name, path, content, "application/octet-stream")
        assert status == 201, body

    def push_manifest(self, name: str, reference: str, media_type: str, content: bytes) -> None:
        status, _, body = self.request("PUT", name, f"/v2/{name}/manifests/{reference}", content, media_type)
        assert status == 201, body

    def delete_manifest(self, name: str, digest: str) -> None:
        status, _, body = self.request("DELETE", name, f"/v2/{name}/manifests/{digest}")
        assert status == 202, body

    def request(
        self, method: str, name: str, path: str, content: bytes = b"", media_type: str = ""
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request, as who may do everything."""
        headers = {"Content-Type": media_type} if media_type else {}
        if self.auth == "basic":
            headers["Authorization"] = _basic(USER, PASSWORD)
        elif self.tokens is not None:
            headers["Authorization"] = f"Bearer {self.tokens.issue(name, 'pull', 'push', 'delete')}"
        with contextlib.closing(self._connection()) as connection:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def _connection(self) -> HTTPConnection:
        if not self.ca:
            return HTTPConnection(self.host, timeout=30)
        context = ssl.create_default_context(cadata=self.ca.decode())
        return HTTPSConnection(self.host, context=context, timeout=30)


@contextmanager
def oci_registry(
    directory: Path, *, auth: Auth = "none", tls: bool = False, tokens: TokenServer | None = None
) -> Iterator[OciRegistry]:
    """Runs a registry on a free port of the loopback interface, while this is entered."""
    program = built()
    if not program.is_file():
        raise RegistryError("the OCI registry of the tests is not built yet: run `make servers`")
    directory.mkdir(parents=True, exist_ok=True)
    ca, served = _certificates(directory) if tls else (b"", {})
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"inmemory": {}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "of the tests", **({"tls": served} if served else {})},
        **_auth(directory, auth, tokens),
    }
    file = directory / "registry.yaml"
    file.write_text(json.dumps(config))  # which is YAML too
    environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
    process = subprocess.Popen([program, "serve", file], env=environment, stderr=subprocess.PIPE, text=True)
    port, drain = _port(process)
    registry = OciRegistry(f"localhost:{port}", ca, auth, tokens if auth == "token" else None)
    try:
        yield registry
    finally:
        process.kill()
        process.wait()
        drain.join()
        if process.stderr:
            process.stderr.close()


def _port(process: subprocess.Popen[str]) -> tuple[int, threading.Thread]:
    """Where it listens, as its log says; the rest of the log is read by a thread, so that it never fills the pipe."""
    found: list[int] = []
    listens, said = threading.Event(), []

    def follow() -> None:
        for line in process.stderr or ():
            match = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if match:
                found.append(int(match[1]))
                listens.set()
            elif not found:
                said.append(line)
        listens.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    if not listens.wait(START_S) or not found:
        process.kill()
        raise RegistryError("the OCI registry does not start:\n" + "".join(said[-20:]))
    return found[0], thread


def _auth(directory: Path, auth: Auth, tokens: TokenServer | None) -> dict[str, Any]:
    if auth == "basic":
        (directory / "htpasswd").write_text(PASSWORD_LINE)
        return {"auth": {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}}
    if auth == "token":
        assert tokens is not None
        (directory / "issuer.pem").write_bytes(tokens.certificate)
        bundle = str(directory / "issuer.pem")
        asked = {"realm": tokens.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}
        return {"auth": {"token": asked}}
    return {}


def _certificates(directory: Path) -> tuple[bytes, dict[str, str]]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(directory / "tls.key")
    issued.cert_chain_pems[0].write_to_path(directory / "tls.crt")
    return authority.cert_pem.bytes(), {
        "certificate": str(directory / "tls.crt"),
        "key": str(directory / "tls.key"),
    }


def descriptor(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    """How a manifest describes content."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def oracle(registry: OciRegistry, reference: str, folder: Path) -> tuple[dict[str, Any], bytes]:
    """What go-containerregistry, which Flux uses, finds there: in words, and the first layer."""
    config = {"auths": {registry.host: {"username": USER, "password": PASSWORD}}} if registry.auth != "none" else {}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "ca.pem").write_bytes(registry.ca)
    environment = {"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(folder)}
    if registry.ca:
        environment["SSL_CERT_FILE"] = str(folder / "ca.pem")
    ran = subprocess.run(
        [built(), "pull", reference, folder / "layer"], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told, (folder / "layer").read_bytes()


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build"])
    parser.parse_args(arguments)
    try:
        print(build(sys.stdout))
    except RegistryError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
