"""Random requests, made of the real API server and of the functions that are to do as it does."""

import http.client
import json
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded.schema import Schema

Json = dict[str, Any]
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class Reply(NamedTuple):
    """An answer with its warnings."""

    status: int
    body: Any
    warnings: tuple[str, ...] = ()


def _text_of(warning: str) -> str:
    """The text in a header `Warning`."""
    return warning.removeprefix('299 - "').removesuffix('"').replace('\\"', '"').replace("\\\\", "\\")


class Client:
    """One kept connection: a new one for each of thousands of requests would be most of the time."""

    def __init__(self, kubernetes: Servers) -> None:
        self._where = urlsplit(kubernetes.url)
        self._tls = ssl.create_default_context(cafile=str(kubernetes.authority.certificate_file))
        self._connection = self._connect()
        self._token = kubernetes.token

    def _connect(self) -> http.client.HTTPSConnection:
        assert self._where.hostname
        return http.client.HTTPSConnection(self._where.hostname, self._where.port, context=self._tls, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Reply:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type, "Accept": "application/json"}
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(method, path, sent, headers)
        response = self._connection.getresponse()
        content, warnings = response.read(), response.headers.get_all("Warning") or ()
        try:
            return Reply(response.status, json.loads(content), tuple(map(_text_of, warnings)))
        except ValueError:  # of a kind that is not served yet: 404 page not found
            return Reply(response.status, {"text": content.decode(errors="replace")})

    def watched(self, path: str, last: str) -> list[Json]:
        """The events of a watch, until the object `last` is there; on a connection of its own."""
        connection, found = self._connect(), list[Json]()
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            while line := response.readline():
                found.append(json.loads(line))
                if ends(found[-1], last):
                    break
        finally:
            connection.close()
        return found


def ends(event: Json, last: str) -> bool:
    """Whether an event is about the object with which a watch is to end."""
    return bool(event["type"] == "ERROR" or event["object"]["metadata"]["name"] == last)


def query(path: str, **parameters: str) -> str:
    return f"{path}?{urlencode(parameters)}"


Part = Callable[[random.Random], Any]
"""Makes a random value."""


def one_of(*values: Any) -> Part:
    return lambda chance: chance.choice(values)


def some(**parts: Part) -> Part:
    """A map with some of these fields."""
    return lambda chance: {name: part(chance) for name, part in parts.items() if chance.random() < 0.5}


def whole(**parts: Part) -> Part:
    """A map with all of these fields."""
    return lambda chance: {name: part(chance) for name, part in parts.items()}


def both(*maps: Part) -> Part:
    """The fields of several maps."""
    return lambda chance: {name: each for part in maps for name, each in part(chance).items()}


def keys(names: str, part: Part) -> Part:
    """A map with some of these keys."""
    return lambda chance: {name: part(chance) for name in names if chance.random() < 0.4}


def members(*values: Any) -> Part:
    """A list of some of these values, in any order."""
    return lambda chance: chance.sample(values, chance.randint(0, len(values)))


def listed(part: Part, most: int = 3) -> Part:
    """A list of such values."""
    return lambda chance: [part(chance) for _ in range(chance.randint(0, most))]


def keyed(name: str, values: tuple[Any, ...], part: Part) -> Part:
    """A list of items that a key tells apart."""

    def make(chance: random.Random) -> list[Json]:
        return [{name: value, **part(chance)} for value in members(*values)(chance)]

    return make


@dataclass
class Kind:
    """A kind of which random objects are made."""

    api_version: str
    kind: str
    collection: str
    """The path of its collection in a namespace, with `{namespace}` in it."""
    body: Part
    always: Json = field(default_factory=dict)
    """What an object must have to be valid, whoever sends it."""
    status: Part | None = None
    is_custom: bool = False

    def path(self, namespace: str, name: str = "") -> str:
        return self.collection.format(namespace=namespace) + (f"/{name}" if name else "")

    def made(self, chance: random.Random, name: str) -> Json:
        metadata = {"name": name, **some(labels=keys("ab", _text), annotations=keys("xy", _text))(chance)}
        return merged(
            {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **self.body(chance)}, self.always
        )


def merged(one: Json, other: Json) -> Json:
    """Two objects in one; lists of the second replace those of the first."""
    joined = dict(one)
    for name, value in other.items():
        before = joined.get(name)
        joined[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return joined


_text = one_of("1", "2", "3")
_number = one_of(1, 2, 3)

CONFIG_MAP = Kind("v1", "ConfigMap", "/api/v1/namespaces/{namespace}/configmaps", some(data=keys("abcd", _text)))


def _ports(chance: random.Random) -> list[Json]:
    ports = []
    for port, protocol in chance.sample([(80, "TCP"), (80, "UDP"), (81, "TCP"), (82, "TCP")], chance.randint(1, 3)):
        item: Json = {"port": port, "name": f"p{port}{protocol.lower()}"}
        if protocol != "TCP" or chance.random() < 0.5:
            item["protocol"] = protocol
        ports.append({**item, **some(targetPort=one_of(8080, "web"), appProtocol=_text)(chance)})
    return ports


SERVICE = Kind(
    "v1",
    "Service",
    "/api/v1/namespaces/{namespace}/services",
    whole(
        spec=both(
            whole(ports=_ports),
            some(
                selector=keys("ab", _text),
                sessionAffinity=one_of("None"),
                publishNotReadyAddresses=one_of(True, False),
            ),
        )
    ),
)

_mounts = keyed("mountPath", ("/a", "/b"), whole(name=one_of("v1"), readOnly=one_of(True, False)))
_container = both(
    whole(image=_text),
    some(
        env=keyed("name", ("A", "B", "C"), some(value=_text)),
        ports=keyed("containerPort", (80, 81), some(protocol=one_of("TCP", "UDP"))),
        args=listed(_text),
        command=listed(_text),
        volumeMounts=_mounts,
        resources=some(limits=keys("", _text), requests=some(cpu=one_of("100m", "1"))),
        securityContext=some(runAsUser=_number, privileged=one_of(False)),
        tty=one_of(True, False),
    ),
)
# Nothing works on a PodTemplate, so that nobody else changes it between two requests.
POD_TEMPLATE = Kind(
    "v1",
    "PodTemplate",
    "/api/v1/namespaces/{namespace}/podtemplates",
    whole(
        template=both(
            whole(
                spec=both(
                    whole(containers=keyed("name", ("one", "two", "three"), _container)),
                    some(
                        nodeSelector=keys("ab", _text),
                        tolerations=listed(some(key=_text, operator=one_of("Exists"))),
                        hostAliases=keyed("ip", ("10.0.0.1", "10.0.0.2"), some(hostnames=listed(_text))),
                        imagePullSecrets=keyed("name", ("s", "t"), whole()),
                        terminationGracePeriodSeconds=_number,
                        securityContext=some(runAsUser=_number, supplementalGroups=members(1, 2, 3)),
                    ),
                )
            ),
            some(metadata=some(labels=keys("ab", _text))),
        )
    ),
    always={"template": {"spec": {"volumes": [{"name": "v1", "emptyDir": {}}]}}},
)
SERVICE_ACCOUNT = Kind(
    "v1",
    "ServiceAccount",
    "/api/v1/namespaces/{namespace}/serviceaccounts",
    some(
        secrets=keyed("name", ("a", "b", "c"), whole()),
        imagePullSecrets=keyed("name", ("a", "b", "c"), whole()),
        automountServiceAccountToken=one_of(True, False),
    ),
)
ROLE = Kind(
    "rbac.authorization.k8s.io/v1",
    "Role",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    some(rules=listed(whole(verbs=listed(_text, 2), apiGroups=one_of([""]), resources=one_of(["pods"])))),
)
_backend = whole(service=whole(name=_text, port=one_of({"number": 80}, {"name": "web"})))
_rule = whole(host=one_of("a.b", "b.c"), http=whole(paths=one_of([{"path": "/", "pathType": "Prefix"}])))
INGRESS = Kind(
    "networking.k8s.io/v1",
    "Ingress",
    "/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses",
    whole(
        spec=both(
            whole(defaultBackend=_backend),
            some(tls=listed(some(hosts=listed(one_of("a.b", "c.d")), secretName=_text)), ingressClassName=_text),
        )
    ),
)
BUILT_IN = (CONFIG_MAP, SERVICE, POD_TEMPLATE, SERVICE_ACCOUNT, ROLE, INGRESS)

_string, _integer = {"type": "string"}, {"type": "integer"}
_pair = {"type": "object", "properties": {"a": _string, "b": _integer}}
CUSTOM_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "text": _string,
                "number": {"type": "number"},
                "mixed": {
                    "x-kubernetes-int-or-string": True,
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                },
                "struct": _pair,
                "maybe": {**_pair, "nullable": True},
                "whole": {**_pair, "x-kubernetes-map-type": "atomic"},
                "map": {"type": "object", "additionalProperties": _string},
                "structs": {"type": "object", "additionalProperties": _pair},
                "set": {"type": "array", "items": _string, "x-kubernetes-list-type": "set"},
                "numbers": {"type": "array", "items": {"type": "number"}, "x-kubernetes-list-type": "set"},
                "list": {"type": "array", "items": _string},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "zone"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": _string,
                            "zone": {"type": "string", "default": "z"},
                            "size": _integer,
                            "set": {"type": "array", "items": _string, "x-kubernetes-list-type": "set"},
                            "inner": {
                                "type": "array",
                                "x-kubernetes-list-type": "map",
                                "x-kubernetes-list-map-keys": ["id"],
                                "items": {
                                    "type": "object",
                                    "required": ["id"],
                                    "properties": {"id": _integer, "text": _string, "struct": _pair},
                                },
                            },
                        },
                    },
                },
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "free": {"x-kubernetes-preserve-unknown-fields": True},
                "open": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": _pair},
                },
                "defaulted": {
                    "type": "object",
                    "properties": {"a": {"type": "string", "default": "x"}, "b": _string},
                },
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "phase": _string,
                "conditions": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                    "items": {
                        "type": "object",
                        "required": ["type"],
                        "properties": {"type": _string, "status": _string},
                    },
                },
            },
        },
    },
}
_struct = some(a=_text, b=_number)
_inner = keyed("id", (1, 2), some(text=_text, struct=_struct))
_item = both(some(zone=one_of("z", "y")), some(size=_number, set=members("a", "b", "c"), inner=_inner))
_free = one_of(1, "x", True, [1, 2], {"a": 1}, {"a": {"b": [1]}}, {}, {"a": {}, "c": "d"}, [{"a": 1}])
_custom_body = some(
    spec=some(
        text=_text,
        number=one_of(1, 1.5, 2),
        mixed=one_of(1, "1", "2"),
        struct=_struct,
        maybe=one_of(None, {"a": "1"}, {"b": 1}, {}),
        whole=_struct,
        map=keys("abc", _text),
        structs=keys("abc", _struct),
        set=members("a", "b", "c", "d"),
        numbers=members(1, 2, 3, 1.5),
        list=listed(_text),
        items=keyed("name", ("one", "two", "three", "four"), _item),
        any=keys("abc", _free),
        free=_free,
        open=both(keys("abc", _free), some(known=both(_struct, keys("xyz", _free)))),
        defaulted=some(a=_text, b=_text),
    )
)
_conditions = keyed("type", ("Ready", "Stalled"), some(status=one_of("True", "False")))


def custom_kind(group: str) -> Kind:
    """The custom kind in a group of this worker's own."""
    return Kind(
        f"{group}/v1",
        "Thing",
        f"/apis/{group}/v1/namespaces/{{namespace}}/things",
        _custom_body,
        status=some(status=some(phase=_text, conditions=_conditions)),
        is_custom=True,
    )


def definition(group: str) -> Json:
    """The definition of the custom kind."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": CUSTOM_SCHEMA},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


# ------------------------------------------------------------------------------------------------ patches


def spoiled(chance: random.Random, applied: Json) -> Json:
    """An object that does not fit its schema, in one of its fields."""
    made: Json = json.loads(json.dumps(applied))
    body = [name for name in made if name not in ("apiVersion", "kind", "metadata")]
    target = chance.choice([made, made["metadata"], *(made[name] for name in body if isinstance(made[name], dict))])
    name = chance.choice(list(target) or ["unknown"])
    target["unknown" if name in ("apiVersion", "kind", "name") else name] = chance.choice(
        [1, "x", True, ["x"], {"y": 1}]
    )
    return made


def nulled(chance: random.Random, value: Any) -> Any:
    """A value with some of its fields null."""
    if isinstance(value, list):
        return [nulled(chance, each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: None if chance.random() < 0.15 else nulled(chance, each) for name, each in value.items()}


def with_directives(chance: random.Random, value: Any, schema: Schema | None) -> Any:
    """A strategic merge patch with some directives in it."""
    if not isinstance(value, dict) or schema is None:
        return value
    patch: Json = {}
    for name, each in value.items():
        child = schema.at(name)
        if isinstance(each, list) and child is not None and child.patch_key:
            patch |= _patched_list(chance, name, each, child)
        else:
            patch[name] = None if chance.random() < 0.1 else with_directives(chance, each, child)
    if chance.random() < 0.04:
        patch["$patch"] = chance.choice(["replace", "delete", "merge", "nonsense"])
    if chance.random() < 0.06:
        patch["$retainKeys"] = chance.choice([[], list(value), [*value, *schema.fields][:8], "x"])
    return patch


def _patched_list(chance: random.Random, name: str, items: list[Json], schema: Schema) -> Json:
    key = schema.patch_key
    known = {"name": ["one", "two", "three", "A", "B", "s", "v1"], "ip": ["10.0.0.1"], "mountPath": ["/a", "/b"]}
    values = known.get(key, [80, 81, 82])
    made = [with_directives(chance, each, schema.items) for each in items]
    if chance.random() < 0.3:
        made.append({"$patch": "delete", key: chance.choice(values)})
    if chance.random() < 0.05:
        made.append({"$patch": "replace"})
    if chance.random() < 0.03:
        made.append({"unnamed": "x"})
    chance.shuffle(made)
    patch: Json = {name: made}
    if chance.random() < 0.3:
        order = [each.get(key) for each in made if "$patch" not in each]
        for value in values:
            if value not in order:
                order.insert(chance.randint(0, len(order)), value)
        if chance.random() < 0.1:
            chance.shuffle(order)
        patch[f"$setElementOrder/{name}"] = [{key: value} for value in order]
        if chance.random() < 0.2:
            del patch[name]
    return patch


def operations(chance: random.Random, live: Json, sent: Json) -> list[Json]:
    """A JSON patch from and to places that are in an object, and some that are not."""
    source, target = (
        [path for path in _pointers(each) if not path.startswith(("/kind", "/status"))] for each in (sent, live)
    )
    odd = [
        "/spec/none/at/all",
        "/nothing",
        "/spec/list/-",
        "/spec/list/-1",
        "/spec/list/7",
        "/spec/set/x",
        "x",
        "/data",
    ]
    found = []
    for _ in range(chance.randint(1, 3)):
        path = chance.choice([*target, *source, chance.choice(odd)])
        if path.startswith(("/metadata", "/apiVersion", "/status")):
            path = "/metadata/labels"
        operation = {"op": chance.choice(["add", "add", "replace", "remove", "test", "copy", "move"]), "path": path}
        if operation["op"] in ("copy", "move"):
            operation["from"] = chance.choice([*target, chance.choice(odd)])
        elif operation["op"] != "remove":
            operation["value"] = chance.choice([_at(sent, path), _at(live, path), "x", {"a": "1"}])
        if chance.random() < 0.03:
            operation["op"] = "nonsense"
        if chance.random() < 0.03:
            del operation["path"]
        found.append(operation)
    return found


def _pointers(value: Any, prefix: str = "") -> list[str]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for name, each in parts for path in (f"{prefix}/{name}", *_pointers(each, f"{prefix}/{name}"))]


def _at(value: Any, path: str) -> Any:
    for part in path.split("/")[1:]:
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (LookupError, ValueError, TypeError):
            return None
    return value
