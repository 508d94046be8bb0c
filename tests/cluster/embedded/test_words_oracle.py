"""The words for what cannot be understood: those of the real server."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.beside import Beside
from tests.cluster.embedded.small import APPS, CORE, Small, open_small
from tests.cluster.embedded.test_standins import deploy
from tidelog.engine.cluster.embedded.cluster import ADMIN
from tidelog.engine.cluster.embedded.requests import Request, User, parse_url

pytestmark = pytest.mark.slow


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


def told_alike(beside: Beside) -> None:
    assert not beside.differences, "\n".join(beside.differences)


async def test_unknown_fields_are_warned_of_before_a_wrong_place_is_refused(beside: Beside) -> None:
    path, custom = oracle.CONFIG_MAP.path(beside.namespace), beside.kind.path(beside.namespace)
    await beside.same("POST", f"{path}?fieldManager=m", {"metadata": {"name": "a"}})
    for metadata in ({"name": "a", "namespace": "other"}, {"name": "b"}):
        wrong = {"metadata": metadata, "unknown": 1}
        if "namespace" in metadata:
            await beside.same("POST", path, wrong)
            thing = {"apiVersion": beside.kind.api_version, "kind": beside.kind.kind, **wrong}
            await beside.same("POST", custom, thing)
        await beside.same("PUT", f"{path}/a", wrong)
        for how in (oracle.MERGE, oracle.STRATEGIC):
            await beside.same("PATCH", f"{path}/a", wrong, how)
    told_alike(beside)


async def test_what_is_too_large_to_be_kept_is_refused_whichever_way_it_came(beside: Beside) -> None:
    """A body may be larger than an object, and patches that are small each make one that is large."""
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{beside.namespace}/roles"
    things = beside.kind.path(beside.namespace)

    def role(name: str, *sizes: int) -> dict[str, Any]:
        rule = {"apiGroups": [""], "resources": ["a"], "verbs": ["get"]}
        rules = [{**rule, "resourceNames": ["x" * size for size in sizes]}]
        metadata = {"name": name}
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}

    large, too_large = (900_000,), (900_000, 900_000)
    await beside.same("POST", f"{roles}?fieldManager=m", role("a", *large))
    for method, path, how in (
        ("POST", roles, "application/json"),
        ("PUT", f"{roles}/a", "application/json"),
        ("PATCH", f"{roles}/a", oracle.MERGE),
        ("PATCH", f"{roles}/a?fieldManager=n&force=true", oracle.APPLY),
        ("PATCH", f"{roles}/b?fieldManager=n", oracle.APPLY),
    ):
        name = "b" if path == roles or "/b?" in path else "a"
        assert (await beside.same(method, path, role(name, *too_large), how)).status == 500
    thing = {"apiVersion": beside.kind.api_version, "kind": beside.kind.kind, "metadata": {"name": "a"}}
    await beside.same("POST", f"{things}?fieldManager=m", {**thing, "spec": {"text": "x" * 900_000}})
    added = {"metadata": {"annotations": {"a": "x" * 200_000}}, "spec": {"list": ["x" * 900_000]}}
    assert (await beside.same("PATCH", f"{things}/a", added, oracle.MERGE)).status == 500
    told_alike(beside)


NO_YAML = (
    *(b"a: [", b"a: b: c", b"\tx: 1", b"a: *b", b"- 1", b"5", b"", b"null", b"{}", b"a: 'x", b"a: &x [*x]"),
    *(b"a: 1\n---\nb: 2", b"a: \x01", b"a: |\n\tb", b'{"a": 1', b"{a: 1", b"key: [a, b}", b"@a: 1", b"a: @b", b"`a: 1"),
    *(b'a: "\\q"', b"  a: 1\n b: 2", b"a:\n  - b\n c: 1", b"---\n---", b"# only", b"%FOO\n---\na: 1"),
)
NO_JSON = (b"{", b"[]", b"5", b"", b"null", b"{}", b'{"a": }', b'"x"', b'{"a":1}x', b"a: 1", b"\xff")


async def test_bodies_that_are_no_object(beside: Beside) -> None:
    maps, things = oracle.CONFIG_MAP.path(beside.namespace), beside.kind.path(beside.namespace)
    for body in NO_YAML:
        await beside.same("PATCH", f"{maps}/y?fieldManager=m", body, oracle.APPLY)
        await beside.same("POST", maps, body, "application/yaml")
    for body in NO_JSON:
        for path in (maps, things):
            await beside.same("POST", path, body)
            await beside.same("PUT", f"{path}/y", body)
    told_alike(beside)


async def test_bodies_of_another_kind_than_their_path(beside: Beside) -> None:
    maps, things = oracle.CONFIG_MAP.path(beside.namespace), beside.kind.path(beside.namespace)
    custom, name = {"apiVersion": beside.kind.api_version, "kind": beside.kind.kind}, {"metadata": {"name": "c"}}
    await beside.same("POST", f"{maps}?fieldManager=m", name)
    await beside.same("POST", f"{things}?fieldManager=m", {**custom, **name})
    for version, kind in (
        *(("v1", "Secret"), ("apps/v1", "Deployment"), ("v1", "Nope"), ("v2", "ConfigMap"), ("apps/v1", "ConfigMap")),
        *(("no.such/v1", "ConfigMap"), ("a/b/c", "ConfigMap"), ("v1", ""), ("", "ConfigMap"), (5, "ConfigMap")),
        *(("v1", []), ("v1", "ConfigMapList"), ("v1", "Status"), ("v1", "configmap"), ("", ""), (None, None)),
        (custom["apiVersion"], custom["kind"]),
    ):
        body: Any = {"apiVersion": version, "kind": kind, **name}
        for path, own in ((maps, "ConfigMap"), (things, custom["kind"])):
            if (path, version, kind) == (things, custom["apiVersion"], own):
                continue
            await beside.same("POST", f"{path}?dryRun=All", body)
            await beside.same("PUT", f"{path}/c?dryRun=All&fieldManager=m", body)
            await beside.same("PATCH", f"{path}/c?dryRun=All&fieldManager=m", body, oracle.APPLY)
    told_alike(beside)


async def test_values_that_go_reads_as_others(beside: Beside) -> None:
    maps, sets = oracle.CONFIG_MAP.path(beside.namespace), f"/apis/apps/v1/namespaces/{beside.namespace}/deployments"
    head = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    words = (
        "n",
        "Y",
        "on",
        "1e3",
        ".5e1",
        "0b11",
        "0o7",
        "1:20",
        "12:30:45",
        "1_0",
        "~",
        "2001-12-14",
        "9" * 20,
        "9" * 400,
    )
    for word in (*words, "!!str 5", "!!int 'x'", "!!bool on", "!!null ''", "+.5", "0x1f", "08", "1e400", "-", "."):
        for query, kind in (("POST", "application/yaml"), ("PATCH", oracle.APPLY)):
            where = f"{maps}/c" if query == "PATCH" else maps
            body = head + f"data: {{a: {word}}}\n".encode()
            await beside.same(query, f"{where}?dryRun=All&fieldManager=m", body, kind)
    odd: tuple[dict[str, Any], ...] = (
        *({name: "x"} for name in ("creationTimestamp", "deletionTimestamp")),
        {"creationTimestamp": "2001-13-01T00:00:00Z"},
        {"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "x"}]},
        *({name: [None]} for name in ("finalizers", "ownerReferences", "managedFields")),
    )
    for metadata in odd:
        await beside.same("POST", f"{maps}?dryRun=All&fieldManager=m", {"metadata": {"name": "c", **metadata}})
    pod = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [None, {"name": "c", "args": [None], "ports": [None]}]},
    }
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod}
    await beside.same("POST", f"{sets}?dryRun=All", {"metadata": {"name": "c"}, "spec": spec})
    told_alike(beside)


async def test_bytes_that_are_no_base64(beside: Beside) -> None:
    secrets = f"/api/v1/namespaces/{beside.namespace}/secrets"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    await beside.same("POST", f"{secrets}?fieldManager=m", secret)
    odd = ("not base64", "é", "QQ", "QQ=", "QQ==", "QUI=", "Q=", "=", "====", "QUJD=", "QQ==QQ==", "Q\nQ=\r=\n", "QR==")
    for text in (*odd, "", "\n", "QQ=x", "QQ=\n", "QUJDREVGR0hJ!", "QUJD REVG", "QUJDREVGR0hJQQ==x", "a" * 41, "-_-_"):
        body = {**secret, "data": {"a": text}}
        await beside.same("POST", f"{secrets}?dryRun=All&fieldManager=m", {**body, "metadata": {"name": "t"}})
        await beside.same("PATCH", f"{secrets}/s?dryRun=All&fieldManager=m", body, oracle.APPLY)
        for kind in (oracle.MERGE, oracle.STRATEGIC):
            await beside.same("PATCH", f"{secrets}/s?dryRun=All&fieldManager=m", {"data": {"a": text}}, kind)
    maps = {"metadata": {"name": "c"}, "binaryData": {"a": "no"}}
    await beside.same("POST", f"{oracle.CONFIG_MAP.path(beside.namespace)}?dryRun=All&fieldManager=m", maps)
    told_alike(beside)


async def test_options_that_make_no_sense(beside: Beside) -> None:
    maps = oracle.CONFIG_MAP.path(beside.namespace)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    await beside.same("POST", f"{maps}?fieldManager=m", body)
    managers = ("%00", "a%0a", "a%20b", "x" * 128, "x" * 129, "%C3%A9" * 64, "%C3%A9" * 65, "%E2%82%AC%07")
    options = [f"fieldManager={name}&dryRun=All" for name in managers]
    options += [
        f"fieldManager=m&dryRun={stage}&fieldValidation={how}" for stage in ("All", "x") for how in ("x", "Warn")
    ]
    options += [f"fieldManager=m&dryRun=All&force={force}" for force in ("", "x", "true", "0", "False")]
    for query in (*options, "dryRun=x&fieldValidation=x&fieldManager=%07"):
        await beside.same("POST", f"{maps}?{query}", {**body, "metadata": {"name": "d"}})
        await beside.same("PUT", f"{maps}/c?{query}", body)
        await beside.same("PATCH", f"{maps}/c?{query}", {"data": {"a": "b"}}, oracle.MERGE)
        await beside.same("PATCH", f"{maps}/c?{query}", body, oracle.APPLY)
    await beside.same("PATCH", f"{maps}/c?dryRun=All", body, oracle.APPLY)
    unnamed: tuple[dict[str, Any], ...] = ({}, {"metadata": {}}, {"metadata": {"labels": {"a": "b"}}})
    for named in unnamed:
        nameless = {"apiVersion": "v1", "kind": "ConfigMap", **named}
        await beside.same("PATCH", f"{maps}/new?dryRun=All&fieldManager=m", nameless, oracle.APPLY)
    for patch in ([{"op": 1}], [{"op": "add", "path": []}], [{"op": "copy", "from": {}}], [{"op": True, "path": 5}]):
        await beside.same("PATCH", f"{maps}/c?dryRun=All", patch, oracle.JSON_PATCH)
    await beside.same("PATCH", f"{maps}/c", [{"op": "add", "path": "/data", "value": {}}] * 10_001, oracle.JSON_PATCH)
    for kind in (oracle.MERGE, oracle.STRATEGIC, oracle.JSON_PATCH, oracle.APPLY):
        for method, where in (("POST", maps), ("PUT", f"{maps}/c")):
            await beside.same(method, f"{where}?dryRun=All", body, kind)
    told_alike(beside)


async def test_lists_and_watches_of_versions(beside: Beside) -> None:
    maps, none = oracle.CONFIG_MAP.path(beside.namespace), oracle.POD_TEMPLATE.path(beside.namespace)
    matches = [f"resourceVersionMatch={how}" for how in ("", "Exact", "NotOlderThan", "x")]
    versions = [f"resourceVersion={version}" for version in ("", "0")]
    for options in (*(f"{match}&{version}" for match in matches for version in versions), "continue=x"):
        for initial in ("", "&sendInitialEvents=true", "&sendInitialEvents=false"):
            if initial or ("match" in options.lower() and "continue" not in options):
                await beside.same("GET", f"{none}?{options}{initial}")
            if "&sendInitialEvents=" in initial and "NotOlderThan" in options:
                continue  # these are watches, which do not end
            if initial or "Match=E" in options or "Match=N" in options or "Match=x" in options:
                await beside.same("GET", f"{none}?watch=true&{options}{initial}")
    for path in (f"{maps}?resourceVersion=999999999", f"{maps}/kube-root-ca.crt?resourceVersion=999999999"):
        for reply in await beside.both("GET", path):
            assert reply.status == 504
            assert reply.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    # As the real one, once it has forgotten.
    reply = await beside.ask("GET", f"{maps}?resourceVersion=1&resourceVersionMatch=Exact")
    assert (reply.status, reply.body["reason"]) == (410, "Expired")
    told_alike(beside)


@pytest.mark.parametrize("seen", ["", "0", "now"])
async def test_a_watch_that_is_asked_for_what_is_there_gives_it(small: Small, seen: str) -> None:
    """Informers begin so, and go on so after a watch that broke: without the bookmark they would wait for ever."""
    await small.create(f"{CORE}/configmaps", {"metadata": {"name": "a"}})
    version = str(small.store.version) if seen == "now" else seen
    query = f"resourceVersion={version}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    *added, mark = await small.watch(f"{CORE}/configmaps?{query}&allowWatchBookmarks=true", 3)
    assert [one["object"]["metadata"]["name"] for one in added] == ["a", "kube-root-ca.crt"]
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


OTHER_KINDS: tuple[dict[str, Any], ...] = (
    *({"kind": kind} for kind in ("Secret", "Nope", "ConfigMapList", "configmap", "", None, 5)),
    *({"apiVersion": version} for version in ("v2", "apps/v1", "no.such/v1", "a/b/c", "", None, 5, ["v1"])),
    {"apiVersion": "apps/v1", "kind": "Deployment"},
    {"apiVersion": "v1", "kind": "Secret"},
    {"apiVersion": "v2", "kind": "Nope"},
    {"apiVersion": None, "kind": None},
    {"apiVersion": "", "kind": ""},
    {"kind": "Secret", "metadata": {"name": "other"}},
    {"kind": "Secret", "unknown": 1},
)


def as_json_patch(patch: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"op": "remove", "path": f"/{name}"} if value is None else {"op": "add", "path": f"/{name}", "value": value}
        for name, value in patch.items()
    ]


async def test_patches_that_make_an_object_of_another_kind(beside: Beside) -> None:
    maps, things = oracle.CONFIG_MAP.path(beside.namespace), beside.kind.path(beside.namespace)
    custom, name = {"apiVersion": beside.kind.api_version, "kind": beside.kind.kind}, {"metadata": {"name": "c"}}
    await beside.same("POST", f"{maps}?fieldManager=m", name)
    await beside.same("POST", f"{things}?fieldManager=m", {**custom, **name})
    group = beside.kind.api_version.partition("/")[0]
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{group}"
    for patch in (*OTHER_KINDS, custom):
        for path in (f"{maps}/c", f"{things}/c", f"{things}/c/status", definition):
            # Of the definition, others have written some fields.
            ask = beside.same_causes if path == definition else beside.same
            query = "?dryRun=All&fieldManager=m"
            await ask("PATCH", path + query, patch, oracle.MERGE)
            await ask("PATCH", path + query, as_json_patch(patch), oracle.JSON_PATCH)
            if not path.startswith(things) and all(isinstance(one, str | None | dict) for one in patch.values()):
                await ask("PATCH", path + query, patch, oracle.STRATEGIC)
    told_alike(beside)


async def test_deletions_with_a_body_of_another_kind(beside: Beside) -> None:
    maps, things = oracle.CONFIG_MAP.path(beside.namespace), beside.kind.path(beside.namespace)
    custom, name = {"apiVersion": beside.kind.api_version, "kind": beside.kind.kind}, {"metadata": {"name": "c"}}
    await beside.same("POST", f"{maps}?fieldManager=m", name)
    await beside.same("POST", f"{things}?fieldManager=m", {**custom, **name})
    for version, kind in (
        *(("v1", "Secret"), ("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("v1", "Nope"), ("v2", "DeleteOptions")),
        *(("no.such/v1", "DeleteOptions"), ("a/b/c", "DeleteOptions"), ("v1", ""), ("", "DeleteOptions"), (5, "x")),
        *(("v1", []), ("v1", "Status"), ("v1", "CreateOptions"), ("v1", "deleteoptions"), ("", ""), (None, None)),
        *(("v1", "DeleteOptions"), ("meta.k8s.io/v1", "DeleteOptions"), ("apps/v1", "DeleteOptions")),
        *(("meta.k8s.io/v1", "CreateOptions"), (custom["apiVersion"], "DeleteOptions")),
        (custom["apiVersion"], custom["kind"]),
    ):
        for path in (f"{maps}/c", f"{things}/c", f"{maps}?labelSelector=a", things):
            for more in ({}, name):
                body: Any = {"apiVersion": version, "kind": kind, "dryRun": ["All"], **more}
                await beside.same("DELETE", path, body)
    for raw in (b"{", b"[]", b"5", b"null", b'"x"', b"{}x", b'{"dryRun":["All"],"preconditions":5}'):
        await beside.same("DELETE", f"{maps}/none", raw)
    for wrong in (
        {"propagationPolicy": 5},
        {"gracePeriodSeconds": "x"},
        {"dryRun": "All"},
        {"preconditions": {"uid": 5}},
        {"orphanDependents": "true"},
        {"unknown": 1},
    ):
        await beside.same("DELETE", f"{maps}/c", {"dryRun": ["All"], **wrong})
    told_alike(beside)


async def test_scales_of_another_kind(beside: Beside) -> None:
    sets = f"/apis/apps/v1/namespaces/{beside.namespace}/replicasets"
    labels = {"a": "b"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    await beside.same_causes("POST", sets, {"metadata": {"name": "c"}, "spec": spec}, "application/json")
    path = f"{sets}/c/scale?dryRun=All&fieldManager=m"
    for version, kind in (
        *(("autoscaling/v1", "Scale"), ("autoscaling/v1", ""), ("", "Scale"), ("", ""), (None, None), (5, "Scale")),
        *(("apps/v1", "ReplicaSet"), ("apps/v1", "Scale")),
        *(("autoscaling/v2", "Scale"), ("v1", "ConfigMap"), ("no.such/v1", "Scale"), ("a/b/c", "Scale"), ("v1", [])),
        *(("autoscaling/v1", "Nope"), ("autoscaling/v1", "HorizontalPodAutoscaler")),
    ):
        said: dict[str, Any] = {"apiVersion": version, "kind": kind}
        await beside.same_causes("PUT", path, {**said, "metadata": {"name": "c"}, "spec": {"replicas": 1}}, oracle.JSON)
        await beside.same_causes("PATCH", path, {**said, "spec": {"replicas": 1}}, oracle.MERGE)
        await beside.same_causes("PATCH", path, as_json_patch(said), oracle.JSON_PATCH)
        if all(isinstance(one, str | None) for one in said.values()):
            await beside.same_causes("PATCH", path, said, oracle.STRATEGIC)
    for raw in (b"{", b"[]", b"5", b"null", b"{}", b'{"spec":5}', b'{"spec":{"replicas":"x"}}', b'{"unknown":1}'):
        await beside.same_causes("PUT", path, raw, oracle.JSON)
        await beside.same_causes("PATCH", path, raw, oracle.MERGE)
    for metadata in ({"name": "other"}, {"namespace": "other"}, {}):
        await beside.same_causes("PUT", path, {"metadata": metadata, "spec": {"replicas": 1}}, oracle.JSON)
    told_alike(beside)


LABELS = (
    *(
        "a=b,,c",
        "a in b",
        "a in (b",
        "a in (b,c",
        "a in",
        "!",
        "!!a",
        "=",
        "a==",
        "a=b=c",
        "a b",
        "a notin ()",
        "a in ()",
    ),
    *("a>b", "a>5x", "a<", "(a)", "a,", "a,b,", ",a", "a=!", "a in (b c)", "-a", "a-", "a=-b", "a/b/c=d", "/a", "a/"),
    *(
        f"{'x' * 64}=a",
        f"a={'x' * 64}",
        "A..b/c=1",
        "a !=b",
        "a!=b!",
        "!a=b",
        "a=b c",
        "in (a)",
        "notin=b",
        "in",
        "a@b=c",
    ),
    *(
        "a=b@c",
        "a in (b@)",
        "a in (,b)",
        "a in (b,)",
        "a in (b,,c)",
        "a>1.5",
        "a > 1 2",
        "a==b==c",
        "()",
        "a=(b)",
        "! a",
    ),
    *(
        "a,!b,c notin (x),d in (y,z",
        "a in (=)",
        "a in (b,=)",
        "a=",
        "a!",
        "a,!",
        "\ta = b ",
        "a>-1",
        "ä=b",
        "a in (ä,@)",
    ),
)
FIELDS = (
    *("metadata.name", "a", "=", "==", "a=b=c", "metadata.name=a,,", "metadata.name==a==b", "metadata.name!a", ","),
    *("!metadata.name=b", "metadata.name in (a)", "metadata.name=a\\", "metadata.name=a\\x", "metadata.name = a"),
    *("metadata.name=a,x", "=a", "x=y", "metadata.name=a\\,b", "metadata.name=a\\=b", "metadata.name=a\\\\", "b,a"),
    *("x=1,metadata.name", "metadata.name=a,metadata.name!=b", "metadata.namespace!=other,metadata.name=a"),
)


async def test_selectors_are_understood_alike(beside: Beside) -> None:
    path = f"/api/v1/namespaces/{beside.namespace}/secrets"
    for name, labels in (("a", {"a": "b"}), ("b", {"in": "5", "a": "2"})):
        await beside.same("POST", f"{path}?fieldManager=m", {"metadata": {"name": name, "labels": labels}})
    for text in LABELS:
        await beside.same("GET", f"{path}?labelSelector={quote(text)}")
    for text in FIELDS:
        for where in (path, oracle.POD_TEMPLATE.path(beside.namespace), beside.kind.path(beside.namespace)):
            await beside.same("GET", f"{where}?fieldSelector={quote(text)}")
    told_alike(beside)


BROKEN = (
    *(
        b'{"a":',
        b"",
        b"[]",
        b'"x"',
        b"5",
        b"true",
        b"null",
        b"a: [",
        b"{}x",
        b'{"op":"add"}',
        b"[5]",
        b"[null]",
        b"{a: 1}",
    ),
    *(
        b"\xff",
        b'[{"op":"x"}]',
        b'{"a" 1}',
        b'{"a":1 "b"}',
        b'{"a":1,}',
        b"[1 2]",
        b"[1,]",
        b"tru",
        b"trux",
        b"-",
        b"-x",
    ),
    *(
        b"1.",
        b"1.x",
        b"1e",
        b"1e+x",
        b"01",
        b'"\n"',
        b'"\\x"',
        b'"\\u12x"',
        b'"a',
        b"'",
        b"{\"a\":'b'}",
        b"{",
        b"[",
        b" \t",
    ),
    *(
        b'{"data":{"$patch":"nonsense"}}',
        b'{"$setElementOrder/x":5}',
        b'[{"op":"test","path":"/x","value":1}]',
        b"\x01",
    ),
)


@pytest.mark.parametrize("how", [oracle.MERGE, oracle.STRATEGIC, oracle.JSON_PATCH])
async def test_patches_that_are_none_are_refused_alike(beside: Beside, how: str) -> None:
    path = f"{oracle.CONFIG_MAP.path(beside.namespace, 'a')}?fieldManager=m"
    await beside.same("PATCH", path, b"{", how)
    made = {"metadata": {"name": "a"}}
    await beside.same("POST", f"{oracle.CONFIG_MAP.path(beside.namespace)}?fieldManager=m", made)
    for body in BROKEN:
        await beside.same("PATCH", path, body, how)
    told_alike(beside)


async def test_what_is_applied_is_an_object_that_names_its_kind(beside: Beside) -> None:
    path = f"{oracle.CONFIG_MAP.path(beside.namespace, 'a')}?fieldManager=m"
    for body in (b"", b"[]", b'"x"', b"5", b"true", b"null", b"{}", b'{"metadata": {}}', b'{"metadata": 5}', b"a: 1"):
        await beside.same("PATCH", path, body, oracle.APPLY)
    told_alike(beside)


async def test_priority_classes_of_the_system_are_listed_alike(beside: Beside) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    said = ("value", "description", "preemptionPolicy")
    told = [
        {one["metadata"]["name"]: [one[name] for name in said] for one in each.body["items"]}
        for each in await beside.both("GET", classes)
    ]
    assert set(told[1]) == {"system-cluster-critical", "system-node-critical"}
    assert told[1].items() <= told[0].items()


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize("accept", [TABLE, METADATA])
async def test_a_scale_as_a_table(small: Small, accept: str) -> None:
    await deploy(small, replicas=2)
    made = await small.get(f"{APPS}/deployments/web")
    path, query = parse_url(f"{APPS}/deployments/web/scale")
    answer = await small.api.handle(Request("GET", path, query, ADMIN, accept=accept))
    told = json.loads(answer.body)
    if accept == METADATA:
        assert (told["kind"], told["metadata"]["uid"]) == ("PartialObjectMetadata", made["metadata"]["uid"])
        return
    assert [one["name"] for one in told["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert [row["cells"][:2] for row in told["rows"]] == [["web", 2]]
    assert told["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_answers_to_questions_say_what_they_are(small: Small) -> None:
    bob = User("bob", ("system:authenticated",))
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    _, told = await small.answer("POST", path, {"spec": {"namespace": "test"}}, user=bob)
    assert (told["kind"], told["apiVersion"]) == ("SelfSubjectRulesReview", "authorization.k8s.io/v1")
    paths = [set(one["nonResourceURLs"]) for one in told["status"]["nonResourceRules"]]
    assert {"/healthz", "/livez", "/readyz", "/version", "/version/"} in paths
    token = await small.create(f"{CORE}/serviceaccounts/default/token?dryRun=All", {"spec": {}})
    assert (token["kind"], token["metadata"]["name"]) == ("TokenRequest", "default")
    assert token["status"]["token"]  # as the real server, which signs one in a dry run too
