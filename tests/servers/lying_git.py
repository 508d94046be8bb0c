"""A Git server of a hostile hand: it says that its branch is at whatever it likes, and sends whatever it likes."""

import hashlib
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT, TREE, BLOB, REF_DELTA = 1, 2, 3, 7
NAMES = {COMMIT: "commit", TREE: "tree", BLOB: "blob"}
ABILITIES = b"multi_ack side-band-64k ofs-delta shallow thin-pack allow-tip-sha1-in-want symref=HEAD:refs/heads/main"


@dataclass
class LyingGit:
    """What it says and sends."""

    port: int
    tip: str = ""
    """Where its branch `main` is."""
    objects: list[tuple[int, bytes, str]] = field(default_factory=list)
    """What it sends: the type of each, its content, and of a delta the id of what it builds upon."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/lies.git"

    def add(self, kind: int, data: bytes) -> str:
        """Sends an object too; returns its id."""
        self.objects.append((kind, data, ""))
        return id_of(kind, data)

    def add_commit(self, tree: str) -> str:
        """Sends a commit of a tree, and says that the branch is there."""
        who = "Eve <eve@example.org> 1700000000 +0000"
        self.tip = self.add(COMMIT, f"tree {tree}\nauthor {who}\ncommitter {who}\n\na lie\n".encode())
        return self.tip


def id_of(kind: int, data: bytes) -> str:
    return hashlib.sha1(f"{NAMES[kind]} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def tree_of(*entries: tuple[bytes, bytes, str]) -> bytes:
    """A tree: mode, name and id of each."""
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(id) for mode, name, id in entries)


def copy_of_all(size: int) -> bytes:
    """A delta that makes of what it builds upon the same again."""
    assert size < 0x80
    return bytes([size, size, 0x80 | 0x01 | 0x10, 0, size])


@contextmanager
def lying_git() -> Iterator[LyingGit]:
    """Runs while the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        lying = LyingGit(server.server_port)
        server.RequestHandlerClass = _handler(lying)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield lying
        finally:
            server.shutdown()
            thread.join()


def _handler(lying: LyingGit) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            tip = lying.tip.encode()
            refs = _line(tip + b" HEAD\0" + ABILITIES + b"\n") + _line(tip + b" refs/heads/main\n")
            self._send("advertisement", _line(b"# service=git-upload-pack\n") + b"0000" + refs + b"0000")

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = _line(b"shallow " + lying.tip.encode()) + b"0000" if b"deepen" in asked else b""
            if b"done" in asked:
                body += _line(b"NAK\n") + _line(b"\x01" + _pack(lying.objects)) + b"0000"
            self._send("result", body)

        def _send(self, what: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"application/x-git-upload-pack-{what}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _line(data: bytes) -> bytes:
    return f"{len(data) + 4:04x}".encode() + data


def _pack(objects: list[tuple[int, bytes, str]]) -> bytes:
    packed = b"PACK" + struct.pack(">II", 2, len(objects))
    for kind, data, base in objects:
        packed += _head(kind, len(data)) + bytes.fromhex(base) + zlib.compress(data)
    return packed + hashlib.sha1(packed, usedforsecurity=False).digest()


def _head(kind: int, size: int) -> bytes:
    head, rest = [kind << 4 | size & 15], size >> 4
    while rest:
        head[-1] |= 0x80
        head.append(rest & 127)
        rest >>= 7
    return bytes(head)
