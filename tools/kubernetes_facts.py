"""Writes down which kinds a Kubernetes API server serves and how they are built: what the embedded cluster goes by.

    python tools/kubernetes_facts.py KUBECONFIG > engine/cluster/embedded/data/kubernetes.json

Only facts are kept (names, types, list keys, defaults), no texts. A line is a kind or a type, sorted.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

COMMAND_S = 60


def main() -> None:
    """Asks the server of the kubeconfig that is the only argument."""
    sys.stdout.write(facts_of(sys.argv[1]))


def facts_of(kubeconfig: str) -> str:
    """The document, of the server that a kubeconfig names."""
    version = _ask(kubeconfig, "/version")["gitVersion"]
    groups: list[dict[str, Any]] = [{"name": "", "versions": ["v1"]}]
    groups += [
        {"name": group["name"], "versions": [each["version"] for each in group["versions"]]}
        for group in _ask(kubeconfig, "/apis")["groups"]
        if _is_builtin(group["name"])
    ]
    resources = [line for group in groups for line in _resources(kubeconfig, group)]
    types: dict[str, Any] = {}
    for path, entry in _ask(kubeconfig, "/openapi/v3")["paths"].items():
        root, _, rest = path.partition("/")
        if path == "api/v1" or (root == "apis" and "/" in rest and _is_builtin(rest.partition("/")[0])):
            types |= _ask(kubeconfig, entry["serverRelativeURL"])["components"]["schemas"]
    parts = {
        "version": json.dumps(version),
        "groups": _lines([json.dumps(group) for group in groups], "[]"),
        "priorities": _lines(
            [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in _priorities(kubeconfig)], "{}"
        ),
        "resources": _lines([json.dumps(one) for one in resources], "[]"),
        "types": _lines([f"{json.dumps(name)}: {_dump(_bare(types[name]))}" for name in sorted(types)], "{}"),
    }
    return _lines([f"{json.dumps(name)}: {value}" for name, value in parts.items()], "{}") + "\n"


def _is_builtin(group: str) -> bool:
    """Whether a group is the server's own, and not that of somebody's definitions."""
    return "." not in group or group.endswith(".k8s.io")


def _ask(kubeconfig: str, path: str) -> Any:
    command = ["kubectl", "--kubeconfig", kubeconfig, "get", "--raw", path]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=COMMAND_S).stdout)


def _priorities(kubeconfig: str) -> Iterator[tuple[str, list[int]]]:
    """Of the versions that the server has itself, by the names of their APIServices."""
    for service in _ask(kubeconfig, "/apis/apiregistration.k8s.io/v1/apiservices")["items"]:
        if (service["metadata"].get("labels") or {}).get("kube-aggregator.kubernetes.io/automanaged") == "onstart":
            spec = service["spec"]
            yield service["metadata"]["name"], [spec["groupPriorityMinimum"], spec["versionPriority"]]


def _resources(kubeconfig: str, group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for version in group["versions"]:
        path = f"/apis/{group['name']}/{version}" if group["name"] else f"/api/{version}"
        for resource in sorted(_ask(kubeconfig, path)["resources"], key=lambda one: str(one["name"])):
            resource.pop("storageVersionHash", None)
            own = {"group": resource.pop("group", ""), "version": resource.pop("version", "")}
            answers = {"answers": own} if own["version"] else {}
            yield {"group": group["name"], "version": version, **resource, **answers}


def _bare(part: Any) -> Any:
    """A schema without its texts; a property may be called `description`, and then is no text."""
    if isinstance(part, dict):
        return {k: _bare(v) for k, v in part.items() if not (k == "description" and isinstance(v, str))}
    return [_bare(each) for each in part] if isinstance(part, list) else part


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _lines(items: list[str], brackets: str) -> str:
    return brackets[0] + "\n" + ",\n".join(items) + "\n" + brackets[1]


if __name__ == "__main__":
    main()
