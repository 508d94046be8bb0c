"""What the commands print of HelmReleases."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.questions.released import RELEASE, Released, began, stalled, upgraded
from tests.questions.scenes import revision
from tidelog.events.names import RunId
from tidelog.events.vocabulary import ReconcileRequested, StageFailed
from tidelog.storage.log.ids import new_id


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIDELOG_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("FLUX_SYSTEM_NAMESPACE", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path / "store"


def _written(scene: Released, store: Path) -> None:
    scene.write(store)


def test_releases_are_listed_with_the_columns_of_flux(store: Path, tidelog: Run) -> None:
    _written(upgraded(), store)
    done = tidelog("get", "helmreleases", "-n", "apps")
    assert done.lines[0].split() == ["NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"]
    assert done.lines[1].split()[:4] == ["web", "1.0.2", "False", "True"]
    assert done.lines[1].endswith("Helm upgrade succeeded for release apps/web.v2 with chart web@1.0.2")
    for words in (("hr",), ("helmrelease",), ("hr/web",), ("helmreleases", "web")):
        assert tidelog("get", *words, "-n", "apps") == done
    assert "helmrelease/web" in tidelog("get", "all", "-A").out


def test_a_history_has_a_column_of_releases_where_there_are_any(store: Path, tidelog: Run) -> None:
    _written(stalled(), store)
    lines = tidelog("history", "hr/web").lines
    assert lines[0].split()[3] == "RELEASE"
    assert "upgrade web.v2 failed, rollback web.v3" in lines[1]
    assert "install web.v1" in lines[2]
    (newest, *_) = json.loads(tidelog("history", "hr/web", "-o", "json").out)
    assert [one["action"] for one in newest["actions"]] == ["upgrade", "rollback"]
    assert "RELEASE" not in tidelog("history", "git/shop").lines[0]


def test_a_run_that_found_no_attempt_left_says_so_and_counts_nothing_as_one(store: Path, tidelog: Run) -> None:
    scene = stalled()
    scene.tell(RELEASE, ReconcileRequested(why="try once more"))
    again = StageFailed(
        stage="apply", reason="RetriesExceeded", final=True, stalled=True, repeats=True, attempt=3, generation=1
    )
    scene.tell(RELEASE, again, run=RunId(new_id()))
    _written(scene, store)
    lines = tidelog("history", "hr/web").lines
    begins = lines[0].index("RELEASE")
    assert [line[begins:].partition("  ")[0] for line in lines[1:3]] == [
        "no attempt left",
        "upgrade web.v2 failed, rollback web.v3",
    ]
    told = tidelog("events", "--for", "hr/web", "--limit", "1").out
    assert "failed (RetriesExceeded), as before, failure 3 in a row: Failed to upgrade after 1 attempt(s)" in told


def test_what_was_given_up_is_explained_with_the_way_on(store: Path, tidelog: Run) -> None:
    _written(stalled(), store)
    done = tidelog("explain", "helmrelease/web")
    assert done.code == 1
    assert "to go on: tidelog reconcile helmrelease/web -n apps --reset" in done.out
    assert "- Job/apps/migrate: the pre-upgrade hook failed: job migrate failed: BackoffLimitExceeded" in done.out


def test_a_trace_goes_through_the_release_to_the_commit(store: Path, tidelog: Run) -> None:
    _written(upgraded(), store)
    facts = {line[:10].strip(): line[10:].strip() for line in tidelog("trace", "deploy/web").lines}
    assert facts["Target"] == "HelmRelease/apps/web"
    assert facts["Revision"].startswith(f"{revision('two')};")
    assert facts["Commit"] == "New checkout"
    assert facts["Release"].startswith("upgrade of web.v2 with web@1.0.2;")
    assert "Now at" not in facts, "the chart's version is another name for the same"
    assert facts["Chart"].startswith("HelmChart/flux-system/apps-web, 1.0.2; fetched at position ")
    assert (facts["Source"], facts["URL"]) == ("GitRepository/flux-system/shop", "https://git.example.com/shop")


def test_a_trace_of_a_chart_names_the_release_that_made_it_and_goes_on_from_there(store: Path, tidelog: Run) -> None:
    _written(upgraded(), store)
    done = tidelog("trace", "helmchart/apps-web")
    assert done.code == 0
    assert done.lines[1].startswith("Made by   HelmRelease/apps/web; position ")
    assert [line.split()[0] for line in done.lines[2:5]] == ["Source", "URL", "Revision"]
    assert done.err == "Nobody applied HelmRelease/apps/web through Tidelog.\n", "which is another matter"
    made = json.loads(tidelog("trace", "helmchart/apps-web", "-o", "json").out)["maker"]
    assert (made["target"], made["way"]["name"]) == (RELEASE, "web")


def test_a_tree_and_the_events_of_a_release(store: Path, tidelog: Run) -> None:
    _written(upgraded(), store)
    for words in (("hr", "web"), ("helmrelease/web",), ("helmreleases", "web")):
        assert tidelog("tree", *words, "-n", "apps").lines == [
            "HelmRelease/apps/web ready",
            "└── Deployment/apps/web ✔ Current",
        ]
    told = tidelog("events", "--for", "hr/web", "--limit", "0").out
    assert "The upgrade to web.v2 with chart web@1.0.2 succeeded" in told
    assert "GitRepository/flux-system/shop Fetched revision" in told


def test_a_tree_says_of_a_release_under_way_what_get_says(store: Path, tidelog: Run) -> None:
    scene = upgraded()
    scene.tell(RELEASE, began("upgrade", 3), run=RunId(new_id()))
    _written(scene, store)
    assert tidelog("get", "hr", "-n", "apps").lines[1].split()[:4] == ["web", "1.0.2", "False", "Unknown"]
    assert tidelog("tree", "hr", "web", "-n", "apps").lines[0] == "HelmRelease/apps/web reconciling"
