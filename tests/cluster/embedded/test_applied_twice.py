"""What kubectl applies once more is left as it is, whichever way it does: on real servers and on the embedded cluster.

What is applied are the objects of the corpus, each kind with little and with much in it, and the manifests of charts
that many clusters run, where they can be had.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest

from tests.cluster.embedded import builtin_oracle
from tests.cluster.embedded.beside import difference
from tests.cluster.embedded.kubectl import Kubectl, Said
from tests.cluster.embedded.public_manifests import CHARTS, manifests_of, objects_of
from tests.oracles.helm import helm
from tests.servers import embedded_servers
from tests.servers.kubernetes_servers import OwnServers
from tidelog.engine.objects.kube import KubeObject

SETTLES_S = 60
LIMIT_S = 180
"""What kubectl may take for the hundred objects of a large chart, on a machine that does much else."""
Side: TypeAlias = Literal["client", "server"]
ANNOTATIONS_MAX = 262_144
"""Bytes of an object's annotations: what is larger can be applied by the server only, whoever applies it."""
ANNOTATED = {"autoscaling.alpha.kubernetes.io/conditions"}
FINALIZED = {"networking.k8s.io/service-cidr-finalizer"}
"""What controllers of the real server add, which the embedded one has not (docs/reference/embedded-cluster.md)."""
_uid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Both(NamedTuple):
    """The same kubectl, for real servers and for the embedded cluster; nobody else uses these."""

    real: Kubectl
    embedded: Kubectl


@pytest.fixture
def both(own_servers: OwnServers, tmp_path: Path) -> Iterator[Both]:
    with embedded_servers.start(tmp_path / "embedded") as embedded:
        home = tmp_path / "home"
        yield Both(*(Kubectl(home, each.kubeconfig, limit_s=LIMIT_S) for each in (own_servers, embedded)))


class Applied(NamedTuple):
    """What kubectl said when it applied all of it, and when it did once more; and what was there after each."""

    first: list[Said]
    again: list[Said]
    before: list[KubeObject]
    after: list[KubeObject]

    @property
    def changed(self) -> list[str]:
        """The objects that the second time changed."""
        return [
            f"{old['kind']}/{old['metadata']['name']}"
            for old, new in zip(self.before, self.after, strict=True)
            if not is_left_alone(old, new)
        ]


def is_left_alone(old: KubeObject, new: KubeObject) -> bool:
    """Whether kubectl changed nothing: not even its version, but for what a controller wrote meanwhile."""
    if old["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"]:
        return True
    written = (theirs(old), old.get("status")) != (theirs(new), new.get("status"))
    return written and applied(old) == applied(new) and own(old) == own(new)


def own(obj: KubeObject) -> list[dict[str, Any]]:
    """What is told of the fields that kubectl owns."""
    return [entry for entry in obj["metadata"].get("managedFields", ()) if entry["manager"].startswith("kubectl")]


def theirs(obj: KubeObject) -> list[dict[str, Any]]:
    """As `own`, of everybody else."""
    return [entry for entry in obj["metadata"].get("managedFields", ()) if not entry["manager"].startswith("kubectl")]


def applied(obj: KubeObject) -> KubeObject:
    """An object without its status, and without what cannot be the same on two clusters."""
    found = builtin_oracle.comparable(obj)
    found.pop("status", None)
    metadata = found["metadata"]
    for name in ("uid", "creationTimestamp"):
        metadata.pop(name)
    annotations = metadata.get("annotations", {})
    metadata["annotations"] = {name: annotations[name] for name in annotations if name not in ANNOTATED}
    metadata["finalizers"] = [name for name in metadata.get("finalizers", ()) if name not in FINALIZED]
    without_uids: KubeObject = json.loads(_uid.sub("UID", json.dumps(found)))
    return without_uids


def owned(obj: KubeObject) -> list[str]:
    """The fields that kubectl owns, whenever it came by them."""
    return sorted(json.dumps({**entry, "time": None}, sort_keys=True) for entry in own(obj))


def apply_twice(kubectl: Kubectl, objects: Sequence[KubeObject], side: Side) -> Applied:
    for name in sorted({obj["metadata"].get("namespace", "default") for obj in objects} - namespaces(objects)):
        if name not in ("default", "kube-system"):
            kubectl("create", "namespace", name)
    first = apply(kubectl, objects, side)
    before = settled(kubectl, objects)
    again = apply(kubectl, objects, side)
    return Applied(first, again, before, there(kubectl, objects))


def namespaces(objects: Sequence[KubeObject]) -> set[str]:
    """Those that are among the objects."""
    return {obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace"}


def apply(kubectl: Kubectl, objects: Sequence[KubeObject], side: Side) -> list[Said]:
    """What defines kinds is applied first, or kubectl would not know what the rest is."""
    definitions = [obj for obj in objects if obj["kind"] == "CustomResourceDefinition"]
    large = [obj for obj in definitions if side == "client" and len(json.dumps(obj)) > ANNOTATIONS_MAX]
    small = [obj for obj in definitions if obj not in large]
    said = [run_apply(kubectl, large, "server"), run_apply(kubectl, small, side)]
    if definitions:
        kubectl("wait", "--for", "condition=Established", "--timeout", "30s", "-f", "-", given=text(definitions))
    rest = [obj for obj in objects if obj not in definitions]
    return [*said, run_apply(kubectl, rest, side)]


def run_apply(kubectl: Kubectl, objects: Sequence[KubeObject], side: Side) -> Said:
    if not objects:
        return Said(0, "", "")
    flags = (f"--server-side={side == 'server'}".lower(), "--validate=ignore")
    said = kubectl("apply", *flags, "-f", "-", given=text(objects), code=None)
    # The embedded cluster warns of less: see docs/reference/embedded-cluster.md.
    return said._replace(err="\n".join(line for line in said.err.splitlines() if not line.startswith("Warning: ")))


def text(objects: Sequence[KubeObject]) -> str:
    return "\n---\n".join(map(json.dumps, objects))


def settled(kubectl: Kubectl, objects: Sequence[KubeObject]) -> list[KubeObject]:
    """The objects as they are in the cluster, once controllers have seen them too."""
    last, found = there(kubectl, objects), there(kubectl, objects)
    end = time.monotonic() + SETTLES_S
    while found != last:
        assert time.monotonic() < end, difference(last, found)
        last, found = found, there(kubectl, objects)
    return found


def there(kubectl: Kubectl, objects: Sequence[KubeObject]) -> list[KubeObject]:
    """The objects as they are in the cluster."""
    flags = ("-o", "json", "--show-managed-fields", "--ignore-not-found")
    read = json.loads(kubectl("get", "-f", "-", *flags, given=text(objects)).out)
    return list(read["items"]) if read["kind"] == "List" else [read]


def hold_same(both: Both, objects: Sequence[KubeObject], side: Side) -> tuple[Applied, Applied]:
    """Both clusters say the same, and have the same in the end.

    Returns:
        What the real one said, and the embedded one.
    """
    real, ours = (apply_twice(kubectl, objects, side) for kubectl in both)
    assert ours.first == real.first
    assert ours.again == real.again
    wrong = [
        f"{mine['kind']}/{mine['metadata']['name']}\n{told}"
        for its, mine in zip(real.after, ours.after, strict=True)
        if (told := difference([applied(its), owned(its)], [applied(mine), owned(mine)]))
    ]
    assert not wrong, "\n".join(wrong)
    return real, ours


LEFT_OUT = {"Event", "Node", "CertificateSigningRequest", "APIService", "ResourceQuota", "LimitRange"}
"""Kinds of the corpus that nobody applies, or that hold others up, which the embedded cluster has not."""


def is_applied(obj: KubeObject) -> bool:
    """Whether an object of the corpus is one for here; what a list of no webhooks does stands among the differences."""
    return obj["kind"] not in LEFT_OUT and "name" in obj["metadata"] and obj.get("webhooks") != []


def is_taken(obj: KubeObject, side: Side) -> bool:
    """Whether it can be applied: by the server no unknown fields, of which a real one tells some or all."""
    return side == "client" or not ({"unknown"} & (obj.keys() | obj["metadata"].keys()))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["client", "server"])
def test_objects_of_each_kind(both: Both, side: Side) -> None:
    corpus = builtin_oracle.objects("twice", "default", "")
    objects = [obj for obj in corpus if is_applied(obj) and is_taken(obj, side)]
    real, ours = hold_same(both, objects, side)
    assert side == "client" or {said.code for said in (*ours.first, *ours.again)} == {0}
    # The real one writes some of them anew where nothing is seen to change: a claim of a volume gets another version.
    assert set(ours.changed) <= set(real.changed), (ours.changed, real.changed)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("chart", CHARTS)
def test_the_manifests_of_a_chart(both: Both, chart: str, side: Side) -> None:
    objects = manifests_of(chart)
    real, ours = hold_same(both, objects, side)
    assert (real.changed, ours.changed) == ([], [])
    assert {said.code for said in (*ours.first, *ours.again)} == {0}
    assert sum(len(said.out.splitlines()) for said in ours.again) == len(objects)


@pytest.fixture
def chart_of_helm(tmp_path: Path) -> list[KubeObject]:
    """What helm renders of the chart that it makes for whoever begins one, with all that this can have."""
    helm("create", tmp_path / "shop", home=tmp_path)
    enabled = ("ingress.enabled=true", "autoscaling.enabled=true", "httpRoute.enabled=false")
    flags = [flag for one in enabled for flag in ("--set", one)]
    return objects_of(helm("template", "web", tmp_path / "shop", *flags, home=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["client", "server"])
def test_the_manifests_of_helms_own_chart(both: Both, chart_of_helm: list[KubeObject], side: Side) -> None:
    kinds = {obj["kind"] for obj in chart_of_helm}
    assert {"ServiceAccount", "Service", "Deployment", "HorizontalPodAutoscaler", "Ingress"} <= kinds
    real, ours = hold_same(both, chart_of_helm, side)
    assert (real.changed, ours.changed) == ([], [])
    assert {said.code for said in (*ours.first, *ours.again)} == {0}
