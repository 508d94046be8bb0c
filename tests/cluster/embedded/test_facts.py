"""What the embedded cluster goes by is what the real server serves."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded.registry import facts

ROOT = Path(__file__).resolve().parents[3]


def test_the_facts_are_those_of_the_server(kubernetes: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    spec = importlib.util.spec_from_file_location("kubernetes_facts", ROOT / "tools" / "kubernetes_facts.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    kept = json.loads((ROOT / "engine/cluster/embedded/data/kubernetes.json").read_text())
    theirs = tool.facts_of(str(kubernetes.kubeconfig))
    if json.loads(theirs)["version"] != facts().version:
        assert not os.environ.get("CI"), "the servers of the tests are another version: make the facts again"
        pytest.skip(f"the facts of the embedded cluster are those of {facts().version}")
    assert _builtin(json.loads(theirs), kept) == kept


def _builtin(theirs: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """Without the kinds that other tests have defined meanwhile."""
    groups = {group["name"] for group in kept["groups"]}
    return {
        "version": theirs["version"],
        "groups": [group for group in theirs["groups"] if group["name"] in groups],
        "priorities": theirs["priorities"],
        "resources": [one for one in theirs["resources"] if one["group"] in groups],
        "types": {name: one for name, one in theirs["types"].items() if name.startswith("io.k8s.")},
    }
