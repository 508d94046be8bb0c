"""Writes down the columns of the tables in which a Kubernetes API server answers: what the embedded cluster goes by.

    python tools/kubernetes_tables.py KUBECONFIG > engine/cluster/embedded/data/tables.json

A line is the columns of one or more kinds, which many have alike. Only facts are kept, no texts.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

COMMAND_S = 60
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def main() -> None:
    """Asks the server of the kubeconfig that is the only argument."""
    sys.stdout.write(tables_of(sys.argv[1]))


def tables_of(kubeconfig: str) -> str:
    """The document, of the server that a kubeconfig names."""
    proxy = subprocess.Popen(
        ["kubectl", "--kubeconfig", kubeconfig, "proxy", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert proxy.stdout is not None  # noqa: S101 - it was asked for
        url = f"http://{proxy.stdout.readline().rsplit(' ', 1)[1].strip()}"
        kinds: dict[str, list[str]] = {}
        for name, path in _lists(url):
            columns = [_bare(column) for column in _ask(url, path, AS_TABLE)["columnDefinitions"]]
            kinds.setdefault(json.dumps(columns), []).append(name)
    finally:
        proxy.terminate()
        proxy.wait(COMMAND_S)
    lines = [f'{{"kinds": {json.dumps(names)}, "columns": {columns}}}' for columns, names in kinds.items()]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _bare(column: dict[str, Any]) -> dict[str, Any]:
    """A column without its text, and without what is nothing."""
    return {key: value for key, value in column.items() if key != "description" and value}


def _lists(url: str) -> Iterator[tuple[str, str]]:
    """What can be listed: `group/version/plural`, and its path."""
    groups = [("", "v1")]
    groups += [
        (group["name"], version["version"]) for group in _ask(url, "/apis")["groups"] for version in group["versions"]
    ]
    for group, version in groups:
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        for resource in _ask(url, path)["resources"]:
            if "list" in resource["verbs"] and "/" not in resource["name"]:
                yield f"{group}/{version}/{resource['name']}", f"{path}/{resource['name']}?limit=1"


def _ask(url: str, path: str, accept: str = "application/json") -> Any:
    command = ["curl", "--fail", "--silent", "--max-time", str(COMMAND_S), "--header", f"Accept: {accept}", url + path]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=COMMAND_S).stdout)


if __name__ == "__main__":
    main()
