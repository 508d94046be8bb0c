"""Manifests of charts that many clusters run. They are others' files: a folder outside of the tree has them.

`TIDELOG_TEST_MANIFESTS` names the folder, in which each is a file as `helm template NAME ... > NAME.yaml` writes it.
"""

import os
from pathlib import Path

import pytest

from tidelog.engine.documents import documents
from tidelog.engine.objects.kube import KubeObject

CHARTS = ("podinfo", "cert-manager", "ingress-nginx", "kube-prometheus-stack")
FOLDER = "TIDELOG_TEST_MANIFESTS"


def manifests_of(chart: str) -> list[KubeObject]:
    """The objects of a chart; skips the test where they cannot be had."""
    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip(f"{FOLDER} names no folder: that {chart} is applied twice is not tested")
    found = Path(folder) / f"{chart}.yaml"
    if not found.is_file():
        pytest.fail(f"{FOLDER} is {folder}, and there is no {found.name} in it", pytrace=False)
    return objects_of(found.read_text())


def objects_of(text: str) -> list[KubeObject]:
    """The objects of a text, those of Lists each."""
    found: list[KubeObject] = []
    for document in documents(text):
        value = document.value
        if value:
            found += value["items"] if value["kind"].endswith("List") else [value]
    return found
