"""The door for who comes from elsewhere: HTTPS, with a token that Kubernetes knows and rights that Kubernetes grants.

Who asks is found by a TokenReview, whether they may by a SubjectAccessReview: on the group `tidelog.dev`, resource
`plans` for approve and reject and `targets` for all else, in the namespace of what the request acts on (a plan's own
target, whatever target is named beside it), with the request's own verb. What has no namespace, a mark say, needs the
right in all namespaces.
"""

import ssl
from pathlib import Path
from typing import Final

from aiohttp import web

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.http.taking import DeniedError, request_route
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.requests import Request
from tidelog.events.envelope import Actor, Proof
from tidelog.events.names import MalformedNameError, ObjectKey

GROUP: Final = "tidelog.dev"
_OF_PLANS: Final = frozenset({"approve", "reject"})


def tls_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """What the door shows of itself. Blocks.

    Raises:
        OSError: when a file cannot be read.
        ssl.SSLError: when they are no certificate and key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def door_routes(daemon: Daemon) -> list[web.RouteDef]:
    """The route that takes requests from elsewhere."""

    async def admitted(request: web.Request, asked: Request) -> Actor:
        return await _admitted(daemon, request.headers.get("Authorization", ""), asked)

    return [request_route(daemon, admitted)]


async def _admitted(daemon: Daemon, authorization: str, asked: Request) -> Actor:
    """Who asks, if they may.

    Raises:
        DeniedError: when they are not known, or may not.
    """
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.strip() or not token.isascii():
        raise DeniedError(401, "give a token that the cluster knows: Authorization: Bearer …")
    cluster = daemon.engine.cluster
    user = await _who(cluster, token.strip())
    attributes = _attributes(daemon, asked)
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user["username"],
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "resourceAttributes": attributes,
        },
    }
    status = (await cluster.review(review)).get("status") or {}
    if not status.get("allowed"):
        what = f"{attributes['verb']} {attributes['resource']}.{GROUP} in namespace {attributes['namespace']!r}"
        raise DeniedError(403, f"{user['username']} may not {what}: a Role that allows it is missing")
    return Actor(kind="user", name=user["username"], proof=Proof(kind="authenticated", by="kubernetes"))


async def _who(cluster: Cluster, token: str) -> KubeObject:
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    status = (await cluster.review(review)).get("status") or {}
    if not status.get("authenticated"):
        raise DeniedError(401, "the cluster does not know this token")
    user: KubeObject = status["user"]
    return user


def _attributes(daemon: Daemon, asked: Request) -> dict[str, str]:
    """What has to be allowed: of what the request acts on, whatever else it names; of nothing known, everywhere."""
    try:
        key = ObjectKey.of_stream(daemon.requests.acts_on(asked))
    except (MalformedNameError, RefusedError):
        key = ObjectKey("", "", "", "")
    resource = "plans" if asked.verb in _OF_PLANS else "targets"
    return {"group": GROUP, "resource": resource, "verb": asked.verb, "namespace": key.namespace, "name": key.name}
