"""A revision as a moment."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tests.events.releases import snapshot as release_snapshot
from tests.questions.scenes import APPS, ROOT, SHOP, START, Scene, revision, shop
from tidelog.engine.moments import MalformedMomentError, position_of, start_of
from tidelog.engine.views.archive import open_archive
from tidelog.engine.views.listing import listed
from tidelog.engine.views.names import KUSTOMIZATION
from tidelog.events.digest import digest_of
from tidelog.events.names import Revision, StreamName
from tidelog.events.vocabulary import ReleaseActionEnded, RevisionFetched
from tidelog.storage.errors import MomentError
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def reader(shop_store: Path) -> Iterator[LogReader]:
    opened = LogReader(Layout(shop_store).log)
    yield opened
    opened.close()


def _last(reader: LogReader, stream: str, word: str) -> int:
    ended = [
        one for one in reader.page(Query(stream=stream, types=("RunEnded",))) if revision(word).encode() in one.raw
    ]
    return ended[-1].envelope.position


def test_a_revision_is_when_the_last_run_that_worked_by_it_ended(reader: LogReader) -> None:
    assert position_of(revision("one"), reader, NOW) == _last(reader, APPS, "one")
    assert position_of(revision("two"), reader, NOW) == reader.head()


def test_of_one_target_it_is_when_that_one_had_it(reader: LogReader) -> None:
    assert position_of(revision("one"), reader, NOW, ROOT) == _last(reader, ROOT, "one")
    # The target never worked by it: then it is that of the others.
    assert position_of(revision("two"), reader, NOW, ROOT) == _last(reader, APPS, "two")


WEB = StreamName("east/helm.toolkit.fluxcd.io/HelmRelease/apps/web")


def test_the_version_of_a_chart_is_when_a_release_was_last_deployed_with_it(tmp_path: Path) -> None:
    scene = Scene()

    def tell(version: int, chart: str, *, status: str = "deployed", stream: StreamName = WEB) -> None:
        snapshot = msgspec.structs.replace(release_snapshot(version, status), chart_version=chart)
        outcome: Literal["succeeded", "failed"] = "succeeded" if status == "deployed" else "failed"
        scene.tell(
            stream,
            ReleaseActionEnded(
                action="upgrade",
                name="web",
                namespace="apps",
                version=version,
                outcome=outcome,
                reason="",
                message="",
                snapshots=(snapshot,),
            ),
        )

    tell(1, "1.0.0+0123456789ab")
    tell(2, "1.1.0")
    tell(3, "1.0.0+ba9876543210")
    tell(4, "1.2.0", status="failed")
    tell(5, "1.1.0", stream=StreamName("east/helm.toolkit.fluxcd.io/HelmRelease/apps/other"))
    reader = LogReader(Layout(scene.write(tmp_path / "store")).log)
    try:
        found = [one.envelope.position for one in reader.page(Query(stream=WEB, types=("ReleaseActionEnded",)))]
        assert position_of("1.1.0", reader, NOW, WEB) == position_of("v1.1.0", reader, NOW, WEB) == found[1]
        assert position_of("1.0.0", reader, NOW, WEB) == found[2]
        assert position_of("1.0.0+0123456789ab", reader, NOW, WEB) == found[0]
        for text in ("1.2.0", "1.0", "1.0.0+0"):
            with pytest.raises(MomentError, match="no version of the release was deployed with chart version 1"):
                position_of(text, reader, NOW, WEB)
        for stream in (None, APPS):  # it is of a release only
            with pytest.raises(MalformedMomentError, match="is no moment"):
                position_of("1.1.0", reader, NOW, stream)
    finally:
        reader.close()


@pytest.mark.parametrize("form", ["{name}@{digest}", "{digest}", "{commit}", "{short}", "sha1:{short}"])
def test_a_revision_goes_by_as_much_of_it_as_tells_it_from_others(reader: LogReader, form: str) -> None:
    name, _, digest = revision("one").partition("@")
    commit = digest.removeprefix("sha1:")
    text = form.format(name=name, digest=digest, commit=commit, short=commit[:9])
    assert position_of(text, reader, NOW) == position_of(revision("one"), reader, NOW)


def test_a_revision_that_the_log_has_not_is_none(reader: LogReader) -> None:
    with pytest.raises(MomentError, match="the log has no revision abcdef0"):
        position_of("abcdef0", reader, NOW)
    with pytest.raises(MomentError, match="no revision"):
        position_of(f"other@{revision('one').partition('@')[2]}", reader, NOW)


def test_a_revision_that_no_run_worked_by_is_when_it_was_fetched_and_an_unclear_one_is_refused(tmp_path: Path) -> None:
    scene = Scene()
    scene.declare(SHOP)
    for commit in ("abcdef01" + "0" * 32, "abcdef02" + "0" * 32):
        new = Revision(f"main@sha1:{commit}")
        scene.tell(SHOP, RevisionFetched(revision=new, tree="0", artifact=digest_of(b""), size=1))
    reader = LogReader(Layout(scene.write(tmp_path / "store")).log)
    assert position_of("abcdef01", reader, NOW) == 3
    with pytest.raises(MalformedMomentError, match="may be any of 2 revisions: main@sha1:abcdef01"):
        position_of("abcdef0", reader, NOW)
    reader.close()


def test_what_was_applied_at_a_revision_is_told_by_it(tmp_path: Path) -> None:
    store = shop().write(tmp_path / "store")
    with open_archive(store, revision("one")) as archive:
        rows = {row.name: row.revision for row in listed(archive, (KUSTOMIZATION,), None)}
    assert rows["apps"] == revision("one")


@pytest.mark.parametrize(
    "form", ["{m}m ago", "{m}m", "{m} minutes ago", "{m}min", "{m} minutes", "{h}h{rest}m", "{s} seconds ago"]
)
def test_how_long_ago_is_told_as_people_write_it(reader: LogReader, form: str) -> None:
    minutes = 90
    text = form.format(m=minutes, h=minutes // 60, rest=minutes % 60, s=minutes * 60)
    now = START + timedelta(minutes=minutes + 2)
    assert position_of(text, reader, now) == position_of("2024-01-01T00:02:00Z", reader, now)


@pytest.mark.parametrize("text", ["ten minutes ago", "10x ago", "ago", "-5m", "5m ago 3"])
def test_what_names_no_length_of_time_is_none(reader: LogReader, text: str) -> None:
    with pytest.raises(MalformedMomentError):
        position_of(text, reader, NOW)


def test_a_range_that_begins_before_the_log_is_all_of_it(reader: LogReader) -> None:
    now = START + timedelta(minutes=10)
    assert start_of("30m ago", reader, now) == 0
    with pytest.raises(MomentError, match="the log begins after"):
        position_of("30m ago", reader, now)
    with pytest.raises(MomentError, match="the log has no position 999999"):
        start_of("999999", reader, now)
    assert start_of(revision("one"), reader, now) == position_of(revision("one"), reader, now)


def test_digits_beyond_the_log_s_end_may_be_those_of_a_commit(tmp_path: Path) -> None:
    scene = Scene()
    scene.declare(SHOP)
    new = Revision(f"main@sha1:38094208{'0' * 32}")
    scene.tell(SHOP, RevisionFetched(revision=new, tree="0", artifact=digest_of(b""), size=1))
    reader = LogReader(Layout(scene.write(tmp_path / "store")).log)
    assert position_of("38094208", reader, NOW) == reader.head()
    assert position_of("1", reader, NOW) == 1
    for text in ("38094209", "9999", "9" * 65):
        with pytest.raises(MomentError, match=f"the log has no position {text}: its last is {reader.head()}"):
            position_of(text, reader, NOW)
    reader.close()
