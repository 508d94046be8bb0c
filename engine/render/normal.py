"""An object in the form in which it is compared and applied (contract KS-019, KS-056, KS-077, CM-039)."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidelog.engine.kinds.meta import OWNER_NAME, OWNER_NAMESPACE
from tidelog.engine.objects.kube import KubeObject

_POD_SPECS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("v1", "Pod"): ("spec",),
    **{
        ("apps/v1", kind): ("spec", "template", "spec")
        for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
    },
    ("batch/v1", "Job"): ("spec", "template", "spec"),
    ("batch/v1", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
}
_CONVERSION: Final = ("spec", "conversion", "webhook", "clientConfig")
_certificate = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def normalise(found: KubeObject) -> None:
    """Puts in the protocols of ports, folds `stringData` into `data`, drops status and creation time. In place.

    Server-side apply keys ports by number and protocol, and takes `stringData` for fields that nobody can read back:
    without this, two applies of one object would differ. Roles and ClusterRoles are left as they are. A definition's
    CA bundle that holds no certificate stands for one that somebody puts in later; the API server would refuse it.
    """
    kind = (found.get("apiVersion"), found.get("kind"))
    if kind in {("rbac.authorization.k8s.io/v1", "Role"), ("rbac.authorization.k8s.io/v1", "ClusterRole")}:
        return
    if kind == ("v1", "Service"):
        _protocols(_at(found, ("spec",)))
    elif kind == ("v1", "Secret"):
        _fold(found)
    elif kind in _POD_SPECS:
        for container in _mappings(_at(found, _POD_SPECS[kind]).get("containers")):
            _protocols(container)
    if found.get("kind") == "CustomResourceDefinition":
        _drop_broken_ca(_at(found, _CONVERSION))
    else:
        found.pop("status", None)
    _at(found, ("metadata",)).pop("creationTimestamp", None)


def own(found: KubeObject, name: str, namespace: str) -> None:
    """Says on the object whose it is. In place."""
    _add(found, "labels", {OWNER_NAME: name, OWNER_NAMESPACE: namespace})


def add_common(found: KubeObject, labels: Mapping[str, str], annotations: Mapping[str, str]) -> None:
    """Puts in a target's common labels and annotations, over those of the object. In place."""
    _add(found, "labels", labels)
    _add(found, "annotations", annotations)


def _add(found: KubeObject, field: str, values: Mapping[str, str]) -> None:
    if not values:
        return
    metadata = found["metadata"]
    metadata[field] = {**(metadata.get(field) or {}), **values}


def _fold(secret: KubeObject) -> None:
    texts, data = secret.get("stringData") or {}, secret.get("data") or {}
    if not _are_texts(texts) or not isinstance(data, dict):
        return  # for the server to refuse, in its words
    secret.pop("stringData", None)
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items() if text is not None}
    if encoded:
        secret["data"] = data | encoded


def _are_texts(found: Any) -> bool:
    return isinstance(found, dict) and all(text is None or isinstance(text, str) for text in found.values())


def _drop_broken_ca(client: dict[str, Any]) -> None:
    bundle = client.get("caBundle")
    if isinstance(bundle, str) and bundle and not _holds_certificate(bundle):
        del client["caBundle"]


def _holds_certificate(bundle: str) -> bool:
    from cryptography import x509  # noqa: PLC0415  # of few objects, and slow to import: a worker starts with the rest

    try:
        data = base64.b64decode("".join(bundle.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    for block in _certificate.findall(data):
        try:
            x509.load_pem_x509_certificate(block)
        except ValueError:
            continue
        return True
    return False


def _protocols(holder: Mapping[str, Any]) -> None:
    for port in _mappings(holder.get("ports")):
        if not port.get("protocol"):
            port["protocol"] = "TCP"


def _at(found: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The mapping at `path`, or an empty one: a field of another type is for the server to refuse."""
    for field in path:
        found = found.get(field) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
