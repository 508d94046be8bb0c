"""A real Git server over HTTPS (git http-backend), and one that can be told to misbehave."""

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

READ_BYTES = 2**16


@dataclass
class Request:
    """What a client asked."""

    method: str
    path: str
    authorization: str | None
    protocol: str | None


@dataclass
class Behaviour:
    """How the server answers; a test changes it at any time."""

    username: str | None = None
    password: str | None = None
    token: str | None = None
    status: int | None = None
    """Every request is answered with this status."""
    body: bytes | None = None
    """Every request is answered with this page, as any web server would."""
    redirect: str | None = None
    """Requests for references are sent on to this address, with the path kept."""
    redirect_transfer: str | None = None
    """Requests for objects are sent on to this address, with the path kept."""
    cut_after_bytes: int | None = None
    """The answer with objects is cut off after so much."""
    hang_transfer: bool = False
    """The answer with objects never comes."""
    hang: bool = False
    """No answer ever comes."""
    protocol_2: bool = True


@dataclass
class GitServer:
    """Serves the bare repositories below `root`."""

    root: Path
    address: str
    ca: bytes
    """The certificate (PEM) of the authority that signed the server's."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Lets go of the requests that hang."""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}.git"

    @property
    def transfers(self) -> int:
        """How often objects were asked for."""
        return sum(request.method == "POST" and "#fetch" in request.path for request in self.requests)


class Handler(BaseHTTPRequestHandler):
    """CGI for git http-backend."""

    protocol_version = "HTTP/1.1"
    git: GitServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, body: bytes) -> None:
        how = self.git.behaviour
        path, _, query = self.path.partition("?")
        is_transfer = self.command == "POST" and b"command=ls-refs" not in body
        told = self.path + ("#fetch" if is_transfer else "")
        given = self.headers.get("Authorization")
        self.git.requests.append(Request(self.command, told, given, self.headers.get("Git-Protocol")))
        if how.hang or (how.hang_transfer and is_transfer):
            self.git.released.wait()
            self.close_connection = True
            return
        if how.status is not None:
            self._send(how.status, {"Content-Type": "text/plain"}, b"told to")
            return
        if how.body is not None:
            self._send(200, {"Content-Type": "text/html"}, how.body)
            return
        target = how.redirect_transfer if is_transfer else how.redirect
        if target is not None:
            self._send(302, {"Location": target + self.path}, b"")
            return
        if not self._is_allowed(given):
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you?")
            return
        self._run(path, query, body, is_transfer=is_transfer)

    def _is_allowed(self, given: str | None) -> bool:
        how = self.git.behaviour
        wanted = []
        if how.username is not None:
            pair = f"{how.username}:{how.password}".encode()
            wanted.append("Basic " + base64.b64encode(pair).decode())
        if how.token is not None:
            wanted.append(f"Bearer {how.token}")
        return not wanted or given in wanted

    def _run(self, path: str, query: str, body: bytes, *, is_transfer: bool) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.git.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        if self.git.behaviour.protocol_2 and "Git-Protocol" in self.headers:
            environment["GIT_PROTOCOL"] = self.headers["Git-Protocol"]
        ran = subprocess.run([_http_backend()], input=body, stdout=subprocess.PIPE, env=environment, check=False)
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        cut = self.git.behaviour.cut_after_bytes
        if is_transfer and cut is not None:
            self._send(status, headers | {"Content-Length": str(len(content))}, content[:cut])
            self.close_connection = True
            return
        self._send(status, headers, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@cache
def _http_backend() -> str:
    """The program itself: by way of `git`, each request would be a process more."""
    done = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    return f"{done.stdout.strip()}/git-http-backend"


class Server(ThreadingHTTPServer):
    """Wraps each connection in TLS in its own thread, so that one that does not shake hands holds no other up."""

    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            if self.context is None:
                super().finish_request(request, client_address)
                return
            with self.context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)
        except OSError:
            pass  # the client went away, or does not trust us

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that go away are what is tested."""


@contextmanager
def git_server(root: Path, *, tls: bool = True, host: str = "localhost") -> Iterator[GitServer]:
    """Runs a server on a free port of the loopback interface."""
    authority = trustme.CA()
    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(server.context)
    address = f"{'https' if tls else 'http'}://{host}:{server.server_port}"
    git = GitServer(root, address, authority.cert_pem.bytes())
    server.RequestHandlerClass = type("BoundHandler", (Handler,), {"git": git})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield git
    finally:
        git.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
