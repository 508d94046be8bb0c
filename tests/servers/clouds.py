"""The three clouds on loopback, by their own names: a proxy that speaks TLS for every host, and a metadata server.

All is played here, from the clouds' documents, and what these do not say is refused. A cloud's registry takes what
its login gave, and has what a real registry behind it has.
"""

import base64
import contextlib
import http.client
import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme

REGION, ACCOUNT_ID = "eu-west-1", "123456789012"
ECR = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com"
PUBLIC_ECR = "public.ecr.aws"
ACR = "shop.azurecr.io"
PKG = "europe-west1-docker.pkg.dev"
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/puller"
TENANT, CLIENT = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
PROVIDER = "projects/1234/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "puller@shop.iam.gserviceaccount.com"
NOBODY = "00000000-0000-0000-0000-000000000000"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True)
class Asked:
    """A request, as a site gets it."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def basic(self) -> tuple[str, str]:
        scheme, _, rest = self.headers.get("authorization", "").partition(" ")
        user, _, password = base64.b64decode(rest).decode().partition(":") if scheme == "Basic" else ("", "", "")
        return user, password


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def said(status: int, content: object, **headers: str) -> Said:
    return Said(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


@dataclass
class Clouds:
    """All of it."""

    ca: bytes
    directory: Path
    registry: str
    """Host and port of the registry behind those of the clouds."""
    proxy: str = ""
    """The address of the proxy."""
    metadata: str = ""
    """Host and port of the metadata servers."""
    asked: list[Asked] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    """The tokens that were given and are good, oldest first."""
    sites: dict[str, Callable[[Asked], Said]] = field(default_factory=dict)
    """By host: what answers in the place of the cloud."""
    sessions: list[str] = field(default_factory=list)
    """Of roles of AWS."""
    expires_s: int = 3600
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def environment(self, **more: str) -> dict[str, str]:
        """That of an engine, whose requests go through the proxy, and which trusts its authority."""
        file = str(self.directory / "ca.pem")
        trust = dict.fromkeys(("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), file)
        quick = {"AWS_METADATA_SERVICE_TIMEOUT": "1", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1"}
        nobody = {
            "HOME": str(self.directory / "home"),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{self.metadata}/nowhere",
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{self.metadata}/nowhere",
            "GCE_METADATA_HOST": f"{self.metadata}/nowhere",
            "GCE_METADATA_IP": f"{self.metadata}/nowhere",
            "NO_GCE_CHECK": "true",
        }
        return {**trust, **quick, **nobody, "HTTPS_PROXY": self.proxy, **more}

    def of_aws_web_identity(self) -> dict[str, str]:
        return self.environment(
            AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE=self._token_file(), AWS_REGION="us-west-2"
        )

    def of_aws_keys(self) -> dict[str, str]:
        return self.environment(AWS_ACCESS_KEY_ID="AKIATESTS", AWS_SECRET_ACCESS_KEY="a-secret-key-of-aws")

    def of_aws_pod(self) -> dict[str, str]:
        (self.directory / "pod").write_text("the-token-of-the-pod")
        return self.environment(
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://{self.metadata}/v1/credentials",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(self.directory / "pod"),
        )

    def of_aws_machine(self) -> dict[str, str]:
        return self.environment(AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://{self.metadata}/")

    def of_azure_workload(self) -> dict[str, str]:
        return self.environment(
            AZURE_TENANT_ID=TENANT,
            AZURE_CLIENT_ID=CLIENT,
            AZURE_FEDERATED_TOKEN_FILE=self._token_file(),
            AZURE_AUTHORITY_HOST="https://login.microsoftonline.com/",
        )

    def of_azure_secret(self) -> dict[str, str]:
        return self.environment(
            AZURE_TENANT_ID=TENANT, AZURE_CLIENT_ID=CLIENT, AZURE_CLIENT_SECRET="a-client-secret-of-azure"
        )

    def of_azure_machine(self) -> dict[str, str]:
        return self.environment(AZURE_POD_IDENTITY_AUTHORITY_HOST=f"http://{self.metadata}", AZURE_CLIENT_ID=CLIENT)

    def of_google_machine(self) -> dict[str, str]:
        found = self.environment(GCE_METADATA_HOST=self.metadata, GCE_METADATA_IP=self.metadata)
        del found["NO_GCE_CHECK"]
        return found

    def of_google_federation(self) -> dict[str, str]:
        config = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{PROVIDER}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": self._token_file()},
        }
        file = self.directory / "google.json"
        file.write_text(json.dumps(config))
        return self.environment(GOOGLE_APPLICATION_CREDENTIALS=str(file))

    def _token_file(self) -> str:
        file = self.directory / "token"
        file.write_text("the-token-of-kubernetes")
        return str(file)

    # What is asked for.

    def to(self, host: str) -> list[Asked]:
        return [one for one in self.asked if one.host == host]

    def give(self, name: str) -> str:
        token = f"{name}-{next(self._numbers)}-{'x' * 20}"
        self.given.append(token)
        return token

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        site = self.sites.get(asked.host)
        if site is not None:
            return site(asked)
        if asked.host == "metadata":
            return self._metadata(asked)
        if asked.host in {ECR, PUBLIC_ECR, ACR, PKG}:
            return self._registry(asked)
        if asked.host in {f"sts.{REGION}.amazonaws.com", "sts.us-east-1.amazonaws.com"}:
            return self._aws_sts(asked)
        if asked.host in {f"api.ecr.{REGION}.amazonaws.com", "api.ecr-public.us-east-1.amazonaws.com"}:
            return self._ecr(asked)
        if asked.host == "login.microsoftonline.com":
            return self._microsoft(asked)
        if asked.host == "sts.googleapis.com":
            return self._google_sts(asked)
        if asked.host == "iamcredentials.googleapis.com":
            return self._google_acting(asked)
        return said(404, {"error": f"nobody is at {asked.host}"})

    def forward(self, asked: Asked, where: str) -> Said:
        connection = http.client.HTTPConnection(where, timeout=30)
        with contextlib.closing(connection):
            kept = {name: value for name, value in asked.headers.items() if name != "connection"}
            connection.request(asked.method, asked.path, asked.body, kept)
            answer = connection.getresponse()
            body = answer.read()
            passed = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}
            }
            return Said(answer.status, body, passed)

    # AWS.

    def _aws_sts(self, asked: Asked) -> Said:
        form = asked.form
        right = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE}
        if any(form.get(name) != value for name, value in right.items()) or not form.get("WebIdentityToken"):
            return _aws_error("InvalidIdentityToken", "no such token")
        ends = (datetime.now(UTC) + timedelta(seconds=self.expires_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.sessions.append(f"a-session-{len(self.sessions)}")
        keys = "<AccessKeyId>ASIATESTS</AccessKeyId><SecretAccessKey>a-secret-key-of-a-role</SecretAccessKey>"
        keys += f"<SessionToken>{self.sessions[-1]}</SessionToken><Expiration>{ends}</Expiration>"
        content = f"<Credentials>{keys}</Credentials>"
        name = "AssumeRoleWithWebIdentity"
        text = f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{name}Result>{content}'
        return Said(200, f"{text}</{name}Result></{name}Response>".encode(), {"Content-Type": "text/xml"})

    def _ecr(self, asked: Asked) -> Said:
        is_public = asked.host.startswith("api.ecr-public")
        target = "SpencerFrontendService" if is_public else "AmazonEC2ContainerRegistry_V20150921"
        scope = "us-east-1/ecr-public" if is_public else f"{REGION}/ecr"
        signed = asked.headers.get("authorization", "")
        session = asked.headers.get("x-amz-security-token", "")
        if asked.headers.get("x-amz-target") != f"{target}.GetAuthorizationToken" or f"/{scope}/aws4" not in signed:
            return said(400, {"__type": "UnrecognizedClientException", "message": "what?"})
        if "ASIA" in signed and session not in {*self.sessions, "a-session-of-the-machine"}:
            return said(400, {"__type": "ExpiredTokenException", "message": "the security token is expired"})
        token = base64.b64encode(f"AWS:{self.give('ecr')}".encode()).decode()
        data = {"authorizationToken": token, "expiresAt": time.time() + 12 * 3600}
        return said(200, {"authorizationData": data if is_public else [data]})

    # Registries.

    def _registry(self, asked: Asked) -> Said:
        path = urlsplit(asked.path).path
        if asked.host == ACR and path == "/oauth2/exchange":
            return self._acr_exchange(asked)
        user = {ECR: "AWS", PUBLIC_ECR: "AWS", ACR: NOBODY, PKG: "oauth2accesstoken"}[asked.host]
        is_known = asked.basic[0] == user and asked.basic[1] in self.given
        if path in {"/oauth2/token", "/v2/token"} and asked.host in {ACR, PKG}:
            return said(200, {"access_token": self.give("pull")}) if is_known else said(401, {"errors": []})
        if asked.host in {ACR, PKG}:
            scheme, _, token = asked.headers.get("authorization", "").partition(" ")
            is_known = scheme == "Bearer" and token in self.given
        if not is_known:
            tokens = {ACR: "/oauth2/token", PKG: "/v2/token"}.get(asked.host)
            bearer = f'Bearer realm="https://{asked.host}{tokens}",service="{asked.host}"'
            asks = bearer if tokens else f'Basic realm="https://{asked.host}/",service="ecr.amazonaws.com"'
            error = {"code": "UNAUTHORIZED", "message": "who are you?"}
            return said(401, {"errors": [error]}, **{"Www-Authenticate": asks})
        kept = {name: value for name, value in asked.headers.items() if name not in {"authorization", "host"}}
        return self.forward(Asked(self.registry, asked.method, asked.path, kept, asked.body), self.registry)

    def _acr_exchange(self, asked: Asked) -> Said:
        form = asked.form
        if asked.method != "POST" or asked.query.get("api-version") != "2021-07-01":
            return said(400, {"errors": [{"code": "BAD"}]})
        if (form["grant_type"], form["service"]) != ("access_token", ACR) or form["access_token"] not in self.given:
            return said(401, {"errors": [{"code": "UNAUTHORIZED"}]})
        claims = json.dumps({"exp": int(time.time()) + self.expires_s, "n": next(self._numbers)}).encode()
        token = f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.{'s' * 20}"
        self.given.append(token)
        return said(200, {"refresh_token": token})

    # Authorities.

    def _microsoft(self, asked: Asked) -> Said:
        path = urlsplit(asked.path).path
        base = f"https://login.microsoftonline.com/{TENANT}"
        if path.endswith(("/openid-configuration", "/discovery/instance")):
            return said(
                200,
                {
                    "tenant_discovery_endpoint": f"{base}/v2.0/.well-known/openid-configuration",
                    "metadata": [],
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                },
            )
        form = asked.form
        proof = form.get("client_assertion") if form.get("client_assertion_type") == ASSERTION else None
        if (path, form.get("client_id"), form.get("grant_type")) != (
            f"/{TENANT}/oauth2/v2.0/token",
            CLIENT,
            "client_credentials",
        ):
            return said(400, {"error": "invalid_request", "error_description": "AADSTS90014: what?"})
        if not proof and form.get("client_secret") != "a-client-secret-of-azure":
            return said(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid secret."})
        token = self.give(f"entra-for-{form['scope'].removesuffix('/.default').removeprefix('https://')}")
        return said(200, {"token_type": "Bearer", "expires_in": self.expires_s, "access_token": token})

    def _google_sts(self, asked: Asked) -> Said:
        form = asked.form
        if asked.path != "/v1/token" or form["grant_type"] != EXCHANGE or not form.get("subject_token"):
            return said(400, {"error": "invalid_request", "error_description": "what?"})
        return said(
            200,
            {
                "access_token": self.give("google"),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": self.expires_s,
            },
        )

    def _google_acting(self, asked: Asked) -> Said:
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if asked.path != f"/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken" or token not in self.given:
            return said(403, {"error": {"status": "PERMISSION_DENIED"}})
        ends = datetime.now(UTC) + timedelta(seconds=self.expires_s)
        return said(200, {"accessToken": self.give("acting"), "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")})

    # Metadata servers.

    def _metadata(self, asked: Asked) -> Said:
        path, given = urlsplit(asked.path).path, asked.headers
        keys = {
            "AccessKeyId": "ASIATESTS",
            "SecretAccessKey": "a-secret-key-of-the-machine",
            "Token": "a-session-of-the-machine",
            "Expiration": (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if path == "/latest/api/token":
            is_right = asked.method == "PUT" and "x-aws-ec2-metadata-token-ttl-seconds" in given
            return Said(200, b"imds-token") if is_right else Said(400)
        if path.startswith("/latest/meta-data/iam/security-credentials/"):
            if given.get("x-aws-ec2-metadata-token") != "imds-token":
                return Said(401)
            is_list = path.endswith("/")
            return Said(200, b"node-role") if is_list else said(200, {"Code": "Success", "Type": "AWS-HMAC", **keys})
        if path == "/v1/credentials":
            return said(200, keys) if given.get("authorization") == "the-token-of-the-pod" else Said(401)
        if path == "/metadata/identity/oauth2/token":
            asks = asked.query
            right = {"api-version": "2018-02-01", "resource": "https://containerregistry.azure.net"}
            if given.get("metadata") != "true" or any(asks.get(name) != value for name, value in right.items()):
                return said(400, {"error": "invalid_request", "error_description": "Required metadata header"})
            token = self.give("machine")
            ends = str(int(time.time()) + self.expires_s)
            return said(200, {"access_token": token, "expires_on": ends, "expires_in": str(self.expires_s)})
        return self._google_metadata(asked)

    def _google_metadata(self, asked: Asked) -> Said:
        flavor = {"Metadata-Flavor": "Google"}
        path = urlsplit(asked.path).path
        if asked.headers.get("metadata-flavor") != "Google":
            return Said(403)
        texts = {
            "": "computeMetadata/",
            "/computeMetadata/v1/project/project-id": "shop",
            "/computeMetadata/v1/instance/attributes/cluster-location": "europe-west1",
            "/computeMetadata/v1/instance/attributes/cluster-name": "fleet",
            "/computeMetadata/v1/universe/universe-domain": "googleapis.com",
        }
        if path.rstrip("/") in texts:
            return Said(200, texts[path.rstrip("/")].encode(), {"Content-Type": "text/plain", **flavor})
        if re.fullmatch(r"/computeMetadata/v1/instance/service-accounts/(?:default|[^/]+@[^/]+)/token", path):
            content = {"access_token": self.give("machine"), "expires_in": self.expires_s, "token_type": "Bearer"}
            return said(200, content, **flavor)
        if path == "/computeMetadata/v1/instance/service-accounts/default/":
            return said(200, {"email": EMAIL, "scopes": [], "aliases": ["default"]}, **flavor)
        return Said(404, b"", flavor)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    clouds: Clouds
    authority: trustme.CA
    contexts: dict[str, ssl.SSLContext]
    host = "metadata"

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0]
        self.send_response(200)
        self.end_headers()
        context = self.contexts.get(host)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert(host).configure_cert(context)
            self.contexts[host] = context
        try:
            secure = context.wrap_socket(self.connection, server_side=True)
        except (OSError, ssl.SSLError):
            self.close_connection = True
            return
        self.host = host
        self.connection = secure
        self.rfile = secure.makefile("rb")
        self.wfile = secure.makefile("wb")
        self.close_connection = False

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        given = {name.lower(): value for name, value in self.headers.items()}
        answer = self.clouds.answer(Asked(self.host, self.command, self.path, given, body))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", answer.headers.get("Content-Length", str(len(answer.body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.connection.close()

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815  # the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""


@contextmanager
def clouds_on(directory: Path, registry: str) -> Iterator[Clouds]:
    """Runs them while this is entered.

    Args:
        directory: for files of its own.
        registry: host and port of one that speaks plain HTTP, and asks nobody who they are.
    """
    authority = trustme.CA()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "home").mkdir()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    clouds = Clouds(authority.cert_pem.bytes(), directory, registry)
    handler = type("Bound", (_Handler,), {"clouds": clouds, "authority": authority, "contexts": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    clouds.proxy = f"http://127.0.0.1:{server.server_port}"
    clouds.metadata = f"127.0.0.1:{server.server_port}"
    try:
        yield clouds
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _aws_error(code: str, message: str, status: int = 400) -> Said:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return Said(status, f"<ErrorResponse>{error}</ErrorResponse>".encode(), {"Content-Type": "text/xml"})
