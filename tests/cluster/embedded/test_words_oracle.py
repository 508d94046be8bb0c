"""The words for what cannot be understood: those of the real server."""

from urllib.parse import quote

import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.beside import Beside

pytestmark = pytest.mark.slow


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
