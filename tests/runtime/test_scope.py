"""Objects of kinds without namespaces are in none; `tests/e2e/test_scope.py` has what that is for."""

import pytest

from tidelog.engine.cluster.errors import ServerError
from tidelog.engine.cluster.port import Kind
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.renderer import Rendering
from tidelog.engine.runtime.scope import in_its_place, is_out_of_place, scopes_of

ISSUERS = Kind("cm.io", "v1", "Issuer", "issuers", namespaced=False)
MAPS = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True)


class Kinds:
    def __init__(self, *kinds: Kind, silent: bool = False) -> None:
        self.kinds = {(kind.group, kind.kind): kind for kind in kinds}
        self.silent = silent

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        if self.silent:
            raise ServerError("it does not answer")
        return self.kinds.get((group, kind))


def obj(api_version: str, kind: str, name: str, namespace: str = "") -> KubeObject:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def rendering(*objects: KubeObject) -> Rendering:
    secret = frozenset(key_of(one) for one in objects if one["metadata"]["name"] == "secret")
    return Rendering(objects=objects, read_set=(), toolchain=(), remote_bases=(), secret=secret)


async def test_a_namespace_falls_away_where_the_kind_has_none() -> None:
    before = rendering(
        obj("cm.io/v1", "Issuer", "secret", "shop"), obj("v1", "ConfigMap", "a", "shop"), obj("who/v1", "Who", "b", "c")
    )
    after = await in_its_place(before, Kinds(ISSUERS, MAPS))
    assert [key_of(one).id for one in after.objects] == [
        "cm.io/Issuer/_/secret",
        "core/ConfigMap/shop/a",
        "who/Who/c/b",
    ]
    assert {key.id for key in after.secret} == {"cm.io/Issuer/_/secret"}
    assert before.objects[0]["metadata"]["namespace"] == "shop"


@pytest.mark.parametrize("spec", ["text", {"names": "text"}, ["a"], {"names": {"kind": 5}, "versions": "v1"}, None])
async def test_a_definition_that_is_none_defines_nothing(spec: object) -> None:
    """The server says what is wrong with it, once it is asked."""
    definition = {**obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", "a"), "spec": spec}
    scopes = await scopes_of([definition, obj("v1", "ConfigMap", "b")], Kinds(MAPS))
    assert scopes["", "ConfigMap"]


async def test_two_objects_that_are_one_are_refused() -> None:
    twice = rendering(obj("cm.io/v1", "Issuer", "a", "one"), obj("cm.io/v1", "Issuer", "a", "two"))
    with pytest.raises(RenderError, match="twice"):
        await in_its_place(twice, Kinds(ISSUERS))


async def test_what_is_out_of_place_is_found_where_the_cluster_answers() -> None:
    keys = [key_of(obj("v1", "ConfigMap", "a", "shop")), key_of(obj("cm.io/v1", "Issuer", "a", "shop"))]
    assert await is_out_of_place(keys, Kinds(ISSUERS, MAPS))
    assert not await is_out_of_place(keys[:1], Kinds(ISSUERS, MAPS))
    assert not await is_out_of_place(keys, Kinds(MAPS))
    assert not await is_out_of_place(keys, Kinds(silent=True))
