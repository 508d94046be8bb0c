"""The embedded cluster beside the real API server: a request made of both, and what of the answers must be the same."""

import copy
import difflib
import json
import re
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from tests.cluster.embedded import builtin_oracle
from tests.cluster.embedded.oracle import Client, Json, Kind, Reply, ends
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.cluster import ADMIN
from tidelog.engine.cluster.embedded.requests import Request, parse_url

_uid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_patched = re.compile(
    r'(patch: )?Invalid value: "(\{|map\[).*[\}\]]": '
    r"(?=json|parsing|strict|no kind|converting|couldn|unexp|Object|illegal|error decoding from json)",
    re.DOTALL,
)
"""The object that a broken patch makes: its ids and versions are each side's own, and so is the order of its keys."""
_unnamed = re.compile(r"is missing in '\{.*\}'", re.DOTALL)
_ours = re.compile(r"unknown field|finalizer|ownerReferences|deprecated in v1\.33")
"""What the embedded one warns of: see docs/reference/embedded-cluster.md."""
_own_metadata = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_own_spec = ("clusterIP", "clusterIPs")


async def ask(api: Api, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Reply:
    """The embedded cluster's answer to the administrator."""
    where, parameters = parse_url(path)
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(method, where, parameters, ADMIN, sent, content_type, "application/json", "python")
    answer = await api.handle(request)
    is_text = answer.content_type.startswith("text/plain")
    told = {"text": answer.body.decode()} if is_text else json.loads(answer.body)
    return Reply(answer.status, told, tuple(answer.warnings))


def common(reply: Reply) -> Any:
    """What of an answer must be the same on both sides."""
    body = copy.deepcopy(reply.body)
    warnings = sorted(one for one in reply.warnings if _ours.search(one))
    if body.get("kind") == "Status":
        details = body.get("details") or {}
        details.pop("uid", None)
        causes = [{**cause, "message": _plain(cause["message"])} for cause in details.pop("causes", None) or []]
        message = _plain(body.get("message", ""))
        told = (body.get("status"), body.get("reason"), message, details, sorted(causes, key=str))
        return reply.status, *told, warnings
    if "items" in body:
        metadata = {name: "…" if name == "continue" else value for name, value in body["metadata"].items()}
        metadata.pop("resourceVersion", None)
        return (
            reply.status,
            (body["apiVersion"], body["kind"]),
            metadata,
            [common_object(item) for item in body["items"]],
            warnings,
        )
    return reply.status, common_object(body), warnings


def _plain(message: str) -> str:
    return _unnamed.sub("is missing in (…)", _patched.sub("patch: (…): ", _uid.sub("UID", message)))


def common_object(obj: Json) -> Json:
    """What of an object must be the same, in place."""
    if "metadata" not in obj:
        return obj
    metadata = obj["metadata"]
    for name in _own_metadata:
        if name in metadata:
            metadata[name] = "…"
    entries = metadata.get("managedFields") or []
    for entry in entries:
        entry.pop("time", None)
    entries.sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    for name in _own_spec if obj.get("spec") else ():
        obj["spec"].pop(name, None)
    return obj


def difference(real: Any, ours: Any) -> str:
    """How two values differ, line by line."""
    theirs, mine = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (real, ours))
    return "\n".join(difflib.unified_diff(theirs, mine, "real", "ours", lineterm="", n=1))


def _changes(events: list[Json]) -> list[Json]:
    """Without those that tell nothing new: see what the documentation says of fields that an apply leaves."""
    last, found = dict[str, Any](), list[Json]()
    for event in events:
        name = event["object"]["metadata"]["name"]
        if event["type"] != "MODIFIED" or last.get(name) != event["object"]:
            found.append(event)
        last[name] = event["object"]
    return found


def _event(event: Json) -> Json:
    return {"type": event["type"], "object": common_object(event["object"])}


@dataclass
class Beside:
    """Both, with the same namespace and the same custom kind; what they answer differently is kept."""

    client: Client
    api: Api
    namespace: str
    kind: Kind
    differences: list[str] = field(default_factory=list)

    async def both(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", ours: Any = None
    ) -> tuple[Reply, Reply]:
        """The real answer and ours; `ours` is the body for our side where it differs, as versions do."""
        real = await anyio.to_thread.run_sync(self.client.request, method, path, body, content_type)
        return real, await ask(self.api, method, path, body if ours is None else ours, content_type)

    async def real(self, *request: Any) -> Reply:
        """The real server's answer."""
        return await anyio.to_thread.run_sync(self.client.request, *request)

    async def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Reply:
        """The embedded one's."""
        return await ask(self.api, method, path, body, content_type)

    async def events(self, path: str, since: list[str], last: str) -> tuple[list[Json], list[Json]]:
        """What watches tell since a version of each side, until the object `last` is there."""
        real, ours = (f"{path}&resourceVersion={version}" for version in since)
        theirs = await anyio.to_thread.run_sync(self.client.watched, real, last)
        where, parameters = parse_url(ours)
        answer = await self.api.handle(Request("GET", where, parameters, ADMIN, b"", "", "application/json", "python"))
        assert answer.stream is not None, answer
        mine: list[Json] = []
        async with aclosing(answer.stream) as stream:
            async for line in stream:
                mine.append(json.loads(line))
                if ends(mine[-1], last):
                    break
        return _changes([_event(one) for one in theirs]), [_event(one) for one in mine]

    async def same(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", ours: Any = None
    ) -> Reply:
        """The real answer; ours must be the same."""
        real, mine = await self.both(method, path, body, content_type, ours)
        if common(real) != common(mine):
            title = f"{method} {path} {str(body)[:400]}"
            self.differences.append(f"{title}\n{difference(common(real), common(mine))}")
        return real

    async def same_causes(self, method: str, path: str, body: Any, content_type: str) -> None:
        """As `same`, where controllers work on the object meanwhile: what is refused is compared, and nothing else."""
        real, mine = await self.both(method, path, body, content_type)
        told = [(each.status, common(each) if each.status >= 400 else None) for each in (real, mine)]
        if told[0] != told[1]:
            self.differences.append(f"{method} {path} {str(body)[:400]}\n{difference(*told)}")

    def path_of(self, obj: Json, *more: str) -> str:
        """The path of a built-in object's collection, or of itself."""
        return builtin_oracle.path_of(obj, self.namespace, *more)
