"""Charts that are made here, held against `helm package`, `helm show values` and `helm template`."""

import base64
import contextlib
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracles.helm import helm
from tests.sources.helm.conftest import package as helm_package
from tests.sources.helm.conftest import write_chart
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm import ChartSpec, Dependency, PackagedChart, package, refuse_verification, revalue
from tidelog.engine.sources.helm.archive import ArchiveError, Budget, files_of
from tidelog.engine.sources.helm.values import values_of, written
from tidelog.engine.sources.helm.workers import Workers
from tidelog.engine.sources.limits import HelmLimits

MIB = 2**20


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers() as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source with a chart of many kinds of files."""
    root = tmp_path / "tree"
    web = write_chart(root / "charts", "web", "1.2.3")
    (web / "files").mkdir()
    (web / "crds").mkdir()
    (web / "tmp").mkdir()
    texts = {
        ".helmignore": "# none of these\nsecret\n*.bak\ntmp/\n",
        "secret": "left out",
        "old.bak": "left out",
        "tmp/left": "out",
        "files/a.txt": "a\n",
        "files/b.bak": "left out",
        "crds/crd.yaml": "apiVersion: v1\nkind: List\nitems: []\n",
        "templates/_helpers.tpl": '{{ define "x" }}x{{ end }}\n',
        "templates/.hidden.yaml": "left out",
        "templates/NOTES.txt": "Hello {{ .Release.Name }}\n",
        "values.schema.json": '{"type": "object"}\n',
        "README.md": "\ufeffRead me.\n",
        "LICENSE": "None.\n",
    }
    for path, text in texts.items():
        (web / path).write_text(text)
    (root / "prod.yaml").write_text("replicas: 3\nimage:\n  name: web\n")
    (root / "eu.yaml").write_text("image:\n  name: web-eu\nlabels: {a: 'yes', b: '1e3', c: 0o14}\n")
    return root


def add_to(chart: Path, text: str) -> None:
    with (chart / "Chart.yaml").open("a") as file:
        file.write(text)


async def nothing(dependency: Dependency) -> Path:
    raise AssertionError(f"{dependency} was asked for")


async def made(workers: Workers, tree: Path, into: Path, *values: str, **more: object) -> PackagedChart:
    spec = ChartSpec(
        chart="charts/web", values_files=values, ignore_missing_values_files=bool(more.pop("skips", False))
    )
    return await package(workers, tree, spec, into, **{"resolve": nothing, **more})  # type: ignore[arg-type]


async def failure(workers: Workers, tree: Path, into: Path, *values: str, **more: object) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await made(workers, tree, into, *values, **more)
    return caught.value


def contents(archive: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(archive) as opened:
        return [(member.name, opened.extractfile(member).read()) for member in opened]  # type: ignore[union-attr]


def values_by_helm(archive: Path, home: Path, *options: str | Path) -> object:
    """The values as a template sees them."""
    home.mkdir(exist_ok=True)
    rendered = helm("template", "it", archive, "--show-only", "templates/map.yaml", *options, home=home)
    return json.loads(base64.b64decode(rendered.partition("  values: ")[2].partition("\n")[0]))


async def test_chart_of_a_tree_is_what_helm_packages(workers: Workers, tree: Path, tmp_path: Path) -> None:
    found = await made(workers, tree, tmp_path / "web.tgz")
    assert (found.name, found.version, found.is_packaged, found.used_values_files) == ("web", "1.2.3", True, ())
    assert found.message == "packaged 'web' chart with version '1.2.3'"
    helm_package(tree / "charts" / "web", tmp_path, tmp_path, "1.2.3")
    assert contents(found.path) == contents(tmp_path / "web-1.2.3.tgz")
    again = await made(workers, tree, tmp_path / "again.tgz")
    assert again.digest == found.digest
    with gzip.open(found.path) as opened:
        opened.read()
        assert opened.mtime == 0


async def test_metadata_is_written_as_helm_does(workers: Workers, tree: Path, tmp_path: Path) -> None:
    web = tree / "charts" / "web"
    add_to(
        web,
        "description: 'a: b # c'\nkeywords: [yes, 1, x]\nmaintainers:\n- {name: Ada, email: a@b.c}\n"
        "annotations: {b: 1.10, a: 'two lines'}\nsources: []\nunknown: 1\ndeprecated: false\ntype: application\n"
        "icon: https://example.org/ü.png\nkubeVersion: '>=1.20.0-0'\nhome: ''\n",
    )
    found = await made(workers, tree, tmp_path / "web.tgz")
    helm_package(web, tmp_path, tmp_path, "1.2.3")
    ours, theirs = (
        values_of(dict(contents(archive))["web/Chart.yaml"].decode(), merges_documents=False)
        for archive in (found.path, tmp_path / "web-1.2.3.tgz")
    )
    assert ours == theirs
    assert "unknown" not in ours


async def test_values_files_are_merged_in_order(workers: Workers, tree: Path, tmp_path: Path) -> None:
    found = await made(workers, tree, tmp_path / "web.tgz", "prod.yaml", "./eu.yaml", metadata="7")
    assert (found.version, found.used_values_files) == ("1.2.3+7", ("prod.yaml", "./eu.yaml"))
    assert found.message == "packaged 'web' chart with version '1.2.3+7' and merged values files [prod.yaml ./eu.yaml]"
    wanted = {"replicas": 3, "image": {"name": "web-eu"}, "labels": {"a": "yes", "b": "1e3", "c": 12}}
    assert values_by_helm(found.path, tmp_path / "home") == wanted
    chart = tree / "charts" / "web"
    (chart / "values.yaml").write_text("")
    files = ("--values", tree / "prod.yaml", "--values", tree / "eu.yaml")
    assert values_by_helm(chart, tmp_path / "home", *files) == wanted


async def test_the_charts_own_values_are_not_implied_but_may_be_named(
    workers: Workers, tree: Path, tmp_path: Path
) -> None:
    both = await made(workers, tree, tmp_path / "a.tgz", "charts/web/values.yaml", "prod.yaml")
    assert values_by_helm(both.path, tmp_path / "home") == {"replicas": 3, "image": {"tag": "one", "name": "web"}}
    own = await made(workers, tree, tmp_path / "b.tgz", "values.yaml")
    assert own.used_values_files == ()
    assert values_by_helm(own.path, tmp_path / "home") == {"replicas": 1, "image": {"tag": "one"}}


async def test_missing_values_files(workers: Workers, tree: Path, tmp_path: Path) -> None:
    error = await failure(workers, tree, tmp_path / "a.tgz", "prod.yaml", "none.yaml")
    assert (error.reason, error.final) == ("ValuesFilesError", True)
    assert "there is no file 'none.yaml'" in error.message
    found = await made(workers, tree, tmp_path / "a.tgz", "prod.yaml", "none.yaml", skips=True)
    assert found.used_values_files == ("prod.yaml",)
    empty = await made(workers, tree, tmp_path / "a.tgz", "none.yaml", skips=True)
    assert empty.used_values_files == ()
    assert values_by_helm(empty.path, tmp_path / "home") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [\n", "prod.yaml: line"),
        ("- a\n", "prod.yaml: line 1: it is no mapping"),
        ("a: &a [x]\nb: *c\n", "prod.yaml: line 2"),
        ("a: " + "[" * 300, "collections within one another"),
    ],
)
async def test_values_files_that_hold_none(
    text: str, message: str, workers: Workers, tree: Path, tmp_path: Path
) -> None:
    (tree / "prod.yaml").write_text(text)
    error = await failure(workers, tree, tmp_path / "a.tgz", "prod.yaml")
    assert error.reason == "ValuesFilesError"
    assert message in error.message


async def test_values_files_stay_in_the_tree(workers: Workers, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("a: 1\n")
    (tree / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    for path in ("../outside.yaml", str(tmp_path / "outside.yaml"), "link.yaml"):
        error = await failure(workers, tree, tmp_path / "a.tgz", path)
        assert error.reason == "ValuesFilesError"


@pytest.mark.parametrize(
    ("version", "added", "made_of_it"),
    [
        ("1.2.3", "0123456789ab.7", "1.2.3+0123456789ab.7"),
        ("v1.2", "7", "1.2.0+7"),
        ("1.2.3-rc.1+old", "7", "1.2.3-rc.1+7"),
    ],
)
async def test_metadata_of_versions(
    version: str, added: str, made_of_it: str, workers: Workers, tree: Path, tmp_path: Path
) -> None:
    chart = tree / "charts" / "web" / "Chart.yaml"
    chart.write_text(chart.read_text().replace("1.2.3", version))
    found = await made(workers, tree, tmp_path / "a.tgz", metadata=added)
    assert found.version == found.revision == made_of_it
    assert f"version: {made_of_it}" in helm("show", "chart", found.path, home=tmp_path).replace('"', "")
    error = await failure(workers, tree, tmp_path / "a.tgz", metadata="a b")
    assert error.reason == "MetadataPatchError"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("charts/none", "there is nothing at 'charts/none'"),
        ("charts", "it has no Chart.yaml"),
        ("prod.yaml", "is no chart: it is no tar.gz"),
        ("../../etc", "there is nothing at"),
        ("link", "leads out of the source"),
    ],
)
async def test_paths_that_are_no_chart(path: str, message: str, workers: Workers, tree: Path, tmp_path: Path) -> None:
    (tree / "link").symlink_to(tmp_path)
    with pytest.raises(FetchError, match=message) as caught:
        await package(workers, tree, ChartSpec(chart=path), tmp_path / "a.tgz", resolve=nothing)
    assert (caught.value.reason, caught.value.final) == ("InvalidChartReference", True)


@pytest.mark.parametrize(
    ("file", "text", "reason", "message"),
    [
        ("Chart.yaml", "apiVersion: v2\nname: web\n", "InvalidChartReference", "Chart.yaml: version is missing"),
        ("Chart.yaml", "apiVersion: v2\nname: [\n", "InvalidChartReference", "Chart.yaml: line"),
        ("Chart.yaml", "name: a/b\nversion: 1.0.0\n", "InvalidChartReference", "the name 'a/b' is none"),
        ("values.yaml", "- a\n", "ChartPackageError", "values.yaml: line 1: it is no mapping"),
        (".helmignore", "a\n**/b\n", "ChartPackageError", ".helmignore: line 2: `**` is not supported"),
        ("charts/a.tgz", "no archive", "ChartPackageError", "charts/a.tgz of 'web': it is no tar.gz"),
        ("files/large", "x" * (5 * MIB + 1), "ChartPackageError", "'files/large' has more than 5242880 bytes"),
    ],
)
async def test_charts_that_are_none(
    file: str, text: str, reason: str, message: str, workers: Workers, tree: Path, tmp_path: Path
) -> None:
    path = tree / "charts" / "web" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    error = await failure(workers, tree, tmp_path / "a.tgz")
    assert (error.reason, error.final) == (reason, True)
    assert message in error.message


async def test_a_link_in_a_chart_may_not_leave_the_tree(workers: Workers, tree: Path, tmp_path: Path) -> None:
    files = tree / "charts" / "web" / "files"
    (files / "inside").symlink_to(tree / "prod.yaml")
    found = await made(workers, tree, tmp_path / "a.tgz")
    assert dict(contents(found.path))["web/files/inside"].startswith(b"replicas: 3")
    (files / "outside").symlink_to("/etc/passwd")
    error = await failure(workers, tree, tmp_path / "a.tgz")
    assert "'files/outside' is a link that leads out of the tree" in error.message
    (files / "outside").unlink()
    (files / "up").symlink_to(tree / "charts")
    assert "a link may lead back up" in (await failure(workers, tree, tmp_path / "a.tgz")).message


async def test_dependencies_of_the_tree_and_of_repositories(workers: Workers, tree: Path, tmp_path: Path) -> None:
    write_chart(tree / "libs", "local", "0.4.0")
    redis = write_chart(tmp_path, "redis", "1.0.0")
    helm_package(redis, tmp_path, tmp_path, "1.0.0")
    web = tree / "charts" / "web"
    add_to(
        web,
        "dependencies:\n- {name: local, version: 0.x, repository: file://../../libs/local}\n"
        "- {name: redis, version: ^1, repository: 'https://ada:pw@example.org/charts', alias: cache}\n",
    )
    asked = []

    async def resolve(dependency: Dependency) -> Path:
        asked.append(dependency)
        return tmp_path / "redis-1.0.0.tgz"

    found = await made(workers, tree, tmp_path / "a.tgz", resolve=resolve)
    (wanted,) = asked
    assert (wanted.name, wanted.version, wanted.key) == ("redis", "^1", "cache")
    names = [name for name, _ in contents(found.path)]
    assert "web/charts/local/Chart.yaml" in names
    assert "web/charts/redis/templates/map.yaml" in names
    rendered = helm("template", "it", found.path, home=tmp_path)
    assert "# Source: web/charts/cache/templates/map.yaml" in rendered

    async def fails(dependency: Dependency) -> Path:
        raise FetchError("ChartPullError", "the server is down")

    error = await failure(workers, tree, tmp_path / "b.tgz", resolve=fails)
    assert (error.reason, error.final) == ("DependencyBuildError", False)
    assert "the dependency 'redis' from https://example.org/charts: the server is down" in error.message


async def test_a_lock_goes_before_the_chart(workers: Workers, tree: Path, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.5.0"):
        write_chart(tree / version, "local", version)
    web = tree / "charts" / "web"
    add_to(web, "dependencies:\n- {name: local, version: 1.x, repository: file://../../1.5.0/local}\n")
    (web / "Chart.lock").write_text(
        "dependencies:\n- name: local\n  version: 1.0.0\n  repository: file://../../1.0.0/local\n"
        "digest: sha256:0\ngenerated: 2026-01-01T00:00:00Z\n"
    )
    found = await made(workers, tree, tmp_path / "a.tgz")
    content = dict(contents(found.path))
    assert b"version: 1.0.0" in content["web/charts/local/Chart.yaml"]
    assert "web/Chart.lock" in content


@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        ("{name: a, version: 1.x, repository: '@stable'}", "the alias '@stable' means nothing here"),
        ("{name: a, version: 1.x, repository: 's3://a'}", "neither https, http, oci nor file"),
        ("{name: a, version: 1.x, repository: 'file://../none'}", "there is nothing at 'file://../none'"),
        ("{name: a, version: 1.x, repository: ''}", "there is nothing at"),
        ("{name: a, version: 2.x, repository: 'file://../../libs/a'}", "'1.0.0' is there, and '2.x' is wanted"),
        ("{name: a, version: '>>1', repository: 'file://../../libs/a'}", "is no range of versions"),
        ("{name: a, version: 1.x, repository: 'file://../../../outside'}", "there is nothing at"),
    ],
)
async def test_dependencies_that_are_none(
    dependency: str, message: str, workers: Workers, tree: Path, tmp_path: Path
) -> None:
    write_chart(tree / "libs", "a", "1.0.0")
    write_chart(tmp_path, "outside", "1.0.0")
    add_to(tree / "charts" / "web", f"dependencies:\n- {dependency}\n")
    error = await failure(workers, tree, tmp_path / "a.tgz")
    assert (error.reason, error.final) == ("DependencyBuildError", True)
    assert message in error.message


async def test_a_downloaded_chart_is_left_as_it_is(workers: Workers, made_repository: Path, tmp_path: Path) -> None:
    source = made_repository / "podinfo-6.1.0.tgz"
    found = await revalue(workers, source, ChartSpec(chart="podinfo"), tmp_path / "a.tgz")
    assert not found.is_packaged
    assert found.message == "pulled 'podinfo' chart with version '6.1.0'"
    assert contents(found.path) == contents(source)


async def test_a_downloaded_chart_with_other_values(workers: Workers, tree: Path, tmp_path: Path) -> None:
    (tree / "charts" / "web" / "values-prod.yaml").write_text("replicas: 5\n")
    helm_package(tree / "charts" / "web", tmp_path, tmp_path, "1.2.3")
    source = tmp_path / "web-1.2.3.tgz"
    spec = ChartSpec(chart="web", values_files=("values.yaml", "values-prod.yaml"))
    found = await revalue(workers, source, spec, tmp_path / "a.tgz", metadata="4")
    assert (found.version, found.is_packaged) == ("1.2.3+4", True)
    assert found.used_values_files == ("values.yaml", "values-prod.yaml")
    assert values_by_helm(found.path, tmp_path / "home") == {"replicas": 5, "image": {"tag": "one"}}
    ours, theirs = dict(contents(found.path)), dict(contents(source))
    assert list(ours) == list(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == {"web/Chart.yaml", "web/values.yaml"}
    missing = ChartSpec(chart="web", values_files=("none.yaml",))
    with pytest.raises(FetchError, match=r"there is no file 'none.yaml' in the chart") as caught:
        await revalue(workers, source, missing, tmp_path / "b.tgz", metadata="4")
    assert caught.value.reason == "ValuesFilesError"


def archive_of(*members: tuple[str, bytes, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, kind, data in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("web/../../etc/passwd", tarfile.REGTYPE, "'web/../../etc/passwd' leads out of the chart"),
        ("web//etc/passwd", tarfile.REGTYPE, "is an absolute name"),
        ("passwd", tarfile.REGTYPE, "is not within the chart's directory"),
        ("Chart.yaml/x", tarfile.REGTYPE, "Chart.yaml is not within"),
        ("web\\..\\..\\x", tarfile.REGTYPE, "leads out of the chart"),
        ("web/c:/x", tarfile.REGTYPE, "is no name of a file"),
        ("web/link", tarfile.SYMTYPE, "'web/link' is a link or a device"),
        ("web/link", tarfile.LNKTYPE, "'web/link' is a link or a device"),
        ("web/null", tarfile.CHRTYPE, "'web/null' is a link or a device"),
        ("web/pipe", tarfile.FIFOTYPE, "'web/pipe' is a link or a device"),
    ],
)
def test_hostile_names(name: str, kind: bytes, message: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        files_of(archive_of((name, kind, b"x")), Budget())
    assert message in str(caught.value)


async def test_a_file_of_a_chart_and_an_archive_are_as_large_as_is_said(tree: Path, tmp_path: Path) -> None:
    file = tree / "charts" / "web" / "files" / "large"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\0" * 6 * MIB)
    async with Workers(limits=HelmLimits(file_bytes=7 * MIB)) as generous:
        found = await made(generous, tree, tmp_path / "a.tgz")
    assert len(dict(contents(found.path))["web/files/large"]) == 6 * MIB
    (tree / "packed.tgz").write_bytes(found.path.read_bytes())
    async with Workers(limits=HelmLimits(file_bytes=7 * MIB, chart_bytes=1000)) as mean:
        with pytest.raises(FetchError, match="more than 1000 bytes"):
            await package(mean, tree, ChartSpec(chart="packed.tgz"), tmp_path / "b.tgz", resolve=nothing)
    async with Workers(limits=HelmLimits(file_bytes=MIB)) as strict:
        error = await failure(strict, tree, tmp_path / "c.tgz")
        assert "'files/large' has more than 1048576 bytes: leave it out with .helmignore" in error.message
        with pytest.raises(FetchError, match="'web/files/large' has more than 1048576 bytes"):
            await revalue(strict, found.path, ChartSpec(chart="web"), tmp_path / "d.tgz")


def test_archives_that_are_too_much() -> None:
    large = ("web/large", tarfile.REGTYPE, b"\0" * (5 * MIB + 1))
    with pytest.raises(ArchiveError, match="'web/large' has more than 5242880 bytes"):
        files_of(archive_of(large), Budget())
    many = [(f"web/{number}", tarfile.REGTYPE, b"\0" * (5 * MIB)) for number in range(21)]
    with pytest.raises(ArchiveError, match="more than 104857600 bytes together"):
        files_of(archive_of(*many), Budget())
    with pytest.raises(ArchiveError, match="files"):
        files_of(archive_of(*[(f"web/{number}", tarfile.REGTYPE, b"") for number in range(30)]), Budget(files=20))
    with pytest.raises(ArchiveError, match="more than 104857600 bytes together"):
        # A header of a gigabyte, which no file shows.
        files_of(gzip.compress(pax_bomb(), 1), Budget())


def pax_bomb() -> bytes:
    member = tarfile.TarInfo("x")
    member.type = tarfile.XHDTYPE
    member.size = 2**30
    return member.tobuf() + b"\0" * (210 * MIB)


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"no tar" * 200, mtime=0), gzip.compress(b"", mtime=0)],  # names without the time
    ids=["empty", "text", "text in gzip", "nothing in gzip"],
)
def test_archives_that_are_none(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        files_of(data, Budget())


def test_archives_that_are_cut() -> None:
    whole = archive_of(("web/Chart.yaml", tarfile.REGTYPE, bytes(range(256)) * 100))
    for end in range(0, len(whole) - 1, 7):
        with pytest.raises(ArchiveError):
            files_of(whole[:end], Budget())


@given(st.binary(min_size=1, max_size=200), st.integers(0, 3000), st.booleans())
def test_archives_that_are_damaged_are_refused_or_read(damage: bytes, place: int, is_inside: bool) -> None:
    whole = archive_of(("web/Chart.yaml", tarfile.REGTYPE, b"name: web"), ("web/" + "a" * 150, tarfile.REGTYPE, b"x"))
    data = gzip.decompress(whole) if is_inside else whole
    damaged = data[:place] + damage + data[place + len(damage) :]
    with contextlib.suppress(ArchiveError):
        files_of(gzip.compress(damaged, 1) if is_inside else damaged, Budget())


RULES = [
    "*.bak\n",
    "/top\n",
    "top\n",
    "sub/\n",
    "sub/*.txt\n",
    "sub/deep/\n",
    "/sub/deep\n",
    "!keep*\n",
    "!sub/\n",
    "# comment\n\n  spaced.txt  \n",
    "[a-c].txt\n",
    "[^a-c].txt\n",
    "[]a].txt\n",
    "?.txt\n",
    "a\\*.txt\n",
    "**/a.txt\n",
    "[\n",
    "templates/x*\n",
    "\ufefftop\n",
    "*/\n",
    "values.yaml\n",
]


@pytest.mark.parametrize("rules", RULES)
async def test_left_out_as_helm_leaves_it_out(rules: str, workers: Workers, tree: Path, tmp_path: Path) -> None:
    web = tree / "charts" / "web"
    names = ["top", "keep.txt", "sub/top", "sub/a.txt", "sub/deep/d.txt", "spaced.txt", "a.txt", "d.txt", "a*.txt"]
    for name in [*names, "templates/x.txt", "templates/.y"]:
        (web / name).parent.mkdir(parents=True, exist_ok=True)
        (web / name).write_text(name)
    (web / ".helmignore").write_text(rules)
    try:
        ours = [name for name, _ in contents((await made(workers, tree, tmp_path / "a.tgz")).path)]
    except FetchError:
        ours = None
    try:
        helm_package(web, tmp_path, tmp_path, "1.2.3")
        theirs = [name for name, _ in contents(tmp_path / "web-1.2.3.tgz")]
    except AssertionError:
        theirs = None
    assert ours == theirs


async def test_a_page_in_place_of_a_chart(workers: Workers, tmp_path: Path) -> None:
    source = tmp_path / "web.tgz"
    await anyio.to_thread.run_sync(source.write_bytes, b"<html>Sign in</html>")
    with pytest.raises(FetchError, match=r"is no chart: it is no tar.gz") as caught:
        await revalue(workers, source, ChartSpec(chart="web"), tmp_path / "a.tgz")
    assert (caught.value.reason, caught.value.final) == ("ChartPullError", True)


def test_verification_is_refused() -> None:
    error = refuse_verification("cosign")
    assert (error.reason, error.final) == ("ChartVerificationError", True)
    assert "remove spec.verify" in error.message


ODD = ["yes", "1e3", "0x1f", "1_000", "2026-01-01", "12:30:45", "~", "null", "0o14", "<<", "a: b", "- a", "#", "1.2.3"]


PRINTABLE = st.characters(exclude_categories=["C", "Z"])


def values_from(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(
        text,
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**53), 2**53)
            | st.floats(allow_nan=False, allow_infinity=False)
            | text
            | st.sampled_from(ODD),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
            max_leaves=10,
        ),
        max_size=4,
    )


@given(values_from(st.text(max_size=6)))
def test_values_that_are_written_are_read_again(values: dict[str, object]) -> None:
    found = values_of(written(values).decode("utf-8", "surrogatepass"), merges_documents=True)
    assert found == values


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(values_from(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=6)), min_size=12, max_size=12)
)
def test_values_that_are_written_are_read_by_helm(tmp_path: Path, values: list[dict[str, object]]) -> None:
    """As the same values in JSON, which is YAML too."""
    chart = write_chart(tmp_path / "chart", "web", "1.0.0")
    every = {f"v{number}": value for number, value in enumerate(values) if value}
    (chart / "values.yaml").write_bytes(written(every))
    ours = values_by_helm(chart, tmp_path / "home")
    (chart / "values.yaml").write_text(json.dumps(every, ensure_ascii=False))
    assert ours == values_by_helm(chart, tmp_path / "home")
