"""What is said of a request whose end does not come in time."""

from pathlib import Path

import pytest

from tidelog.engine.cli import asking
from tidelog.engine.cli.asking import ended_well
from tidelog.engine.cli.door import Access, Asked
from tidelog.events.names import StreamName
from tidelog.storage.layout import Layout

APPS = StreamName("default/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/apps")


@pytest.mark.parametrize("has_store", [True, False])
async def test_who_waited_in_vain_is_told_what_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, has_store: bool
) -> None:
    async def never(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(asking, "wait", never)
    access = Access(tmp_path)
    if has_store:
        Layout(access.store).log.touch()
    assert await ended_well(access, APPS, Asked(position=7), 15, "table") is False
    where = "; `tidelog explain kustomization/apps -n flux-system` says what holds it" if has_store else ""
    assert capsys.readouterr().err == f"✗ Kustomization/flux-system/apps: it has not ended within 15 s{where}\n"
