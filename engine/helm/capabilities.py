"""What a cluster can do, as charts ask for it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def served_versions(discovered: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What `.Capabilities.APIVersions` has in a cluster: its versions (`apps/v1`) and kinds (`apps/v1/Scale` too).

    Args:
        discovered: the answers of `/api` and `/apis` in the form `apidiscovery.k8s.io/v2`.
    """
    found: set[str] = set()
    for answer in discovered:
        for group in answer.get("items") or ():
            name = (group.get("metadata") or {}).get("name") or ""
            for version in group.get("versions") or ():
                served = f"{name}/{version['version']}" if name else version["version"]
                found.add(served)
                # What is stale stands for an API service that does not answer: its kinds are those of yesterday.
                if version.get("freshness") != "Stale":
                    found |= {f"{served}/{kind}" for kind in _kinds(version)}
    return tuple(sorted(found))


def _kinds(version: Mapping[str, Any]) -> Iterator[str]:
    for resource in version.get("resources") or ():
        for one in (resource, *(resource.get("subresources") or ())):
            kind = (one.get("responseKind") or {}).get("kind")
            if kind:
                yield kind
