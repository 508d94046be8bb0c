"""What is downloaded becomes a tree and an artifact: archives made by tar itself, and hostile ones by hand."""

import gzip
import hashlib
import io
import lzma
import random
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.intake.intake import Intake, Settings
from tidelog.engine.sources.intake.jobs import Unpack, Unpacked
from tidelog.storage.artifacts import ArtifactStore, Limits, Tarball

REASON: FetchReason = "OCIArtifactLayerOperationFailed"


@pytest.fixture
async def intake(store: ArtifactStore) -> AsyncIterator[Intake]:
    async with Intake(store) as opened:
        yield opened


def add(archive: tarfile.TarFile, name: str, data: bytes = b"x", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def archive_of(*adds: Callable[[tarfile.TarFile], None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for each in adds:
            each(archive)
    return out.getvalue()


def file(name: str, data: bytes = b"x", **fields: Any) -> Callable[[tarfile.TarFile], None]:
    return lambda archive: add(archive, name, data, **fields)


def damaged(data: bytes) -> bytes:
    """With bytes in the midst that its checks do not fit."""
    middle = len(data) // 2
    return data[:middle] + bytes(20) + data[middle + 20 :]


async def taken(intake: Intake, data: bytes, **fields: Any) -> tuple[Unpacked, Tarball]:
    async with intake.downloading() as download:
        await anyio.Path(download.path).write_bytes(data)
        job: dict[str, Any] = {"form": "archive", "what": "the layer", "reason": REASON} | fields
        return await download.unpack(Unpack(path=str(download.path), **job))


def files_of(store: ArtifactStore, tree: str, path: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, entry in store.children(tree).items():
        whole = f"{path}{name}"
        found |= files_of(store, entry.id, f"{whole}/") if entry.kind == "tree" else {whole: store.read(entry.id)}
    return found


def names_in(tarball: Path) -> list[str]:
    with tarfile.open(tarball) as archive:
        return [member.name for member in archive if member.isreg()]


@pytest.mark.parametrize("compressed", [["-z"], ["-J"], []], ids=["gzip", "xz", "plain"])
async def test_an_archive_of_the_tar_command(
    intake: Intake, store: ArtifactStore, tmp_path: Path, compressed: list[str]
) -> None:
    there = tmp_path / "there"
    (there / "deploy").mkdir(parents=True)
    (there / "empty").mkdir()
    (there / "deploy" / "a.yaml").write_text("kind: A\n")
    script = there / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (there / "link").symlink_to("/etc/passwd")
    made = tmp_path / "made.tar"
    await anyio.run_process(["tar", *compressed, "-cf", str(made), "-C", str(there), "."])
    unpacked, tarball = await taken(intake, made.read_bytes())
    assert files_of(store, unpacked.tree) == {"deploy/a.yaml": b"kind: A\n", "run.sh": b"#!/bin/sh\n"}
    assert store.children(unpacked.tree)["run.sh"].executable
    assert sorted(names_in(tarball.path)) == ["deploy/a.yaml", "run.sh"]
    assert tarball.digest == f"sha256:{hashlib.sha256(tarball.path.read_bytes()).hexdigest()}"


async def test_the_same_files_are_the_same_artifact_however_they_were_packed(intake: Intake) -> None:
    one = await taken(intake, archive_of(file("a", mtime=5), file("b/c", uid=7)))
    two = await taken(intake, archive_of(file("./b/c"), file("a", mtime=9)))
    assert (one[0].tree, one[1].digest) == (two[0].tree, two[1].digest)


async def test_it_is_there_after_a_restart(store: ArtifactStore, intake: Intake, tmp_path: Path) -> None:
    unpacked, tarball = await taken(intake, archive_of(file("a", b"1")))
    again = await anyio.to_thread.run_sync(ArtifactStore.open, tmp_path / "store")
    assert files_of(again, unpacked.tree) == {"a": b"1"}
    assert again.check_tarball(tarball.digest) == "whole"
    await anyio.to_thread.run_sync(again.close)


async def test_what_is_ignored_is_left_out(intake: Intake, store: ArtifactStore) -> None:
    data = archive_of(file("a.yaml"), file("b.png"), file("c.md"), file(".github/x"))
    defaults, _ = await taken(intake, data)
    assert sorted(files_of(store, defaults.tree)) == ["a.yaml", "c.md"]
    named, _ = await taken(intake, data, ignore="*.md")
    assert sorted(files_of(store, named.tree)) == [".github/x", "a.yaml", "b.png"]
    whole, _ = await taken(intake, data, is_filtered=False)
    assert sorted(files_of(store, whole.tree)) == [".github/x", "a.yaml", "b.png", "c.md"]


async def test_an_archive_that_is_kept_is_served_byte_for_byte(intake: Intake, store: ArtifactStore) -> None:
    data = archive_of(file("podinfo/Chart.yaml", b"name: podinfo\n", mtime=77))
    unpacked, tarball = await taken(intake, data, is_filtered=False, is_kept=True)
    assert tarball.path.read_bytes() == data
    assert files_of(store, unpacked.tree) == {"podinfo/Chart.yaml": b"name: podinfo\n"}


async def test_a_chart_as_helm_packs_it(intake: Intake, store: ArtifactStore) -> None:
    """Its gzip header has an extra field, and a comment."""
    packed = archive_of(file("podinfo/Chart.yaml", b"name: podinfo"))
    deflated = packed[10:]
    extra = b"+aHR0cHM6Ly95b3V0dS5iZS96OVV6MWljandyTQo="
    data = packed[:3] + b"\x14" + packed[4:10] + len(extra).to_bytes(2, "little") + extra + b"Helm\0" + deflated
    unpacked, _ = await taken(intake, data, is_filtered=False, is_kept=True)
    assert files_of(store, unpacked.tree) == {"podinfo/Chart.yaml": b"name: podinfo"}


async def test_a_single_file(intake: Intake, store: ArtifactStore) -> None:
    unpacked, tarball = await taken(
        intake, b"apiVersion: v1\n", form="file", name="index.yaml", is_filtered=False, is_kept=True
    )
    assert files_of(store, unpacked.tree) == {"index.yaml": b"apiVersion: v1\n"}
    assert tarball.path.read_bytes() == b"apiVersion: v1\n"


async def test_a_directory(intake: Intake, store: ArtifactStore) -> None:
    async with intake.downloading() as download:
        place = anyio.Path(download.path)
        await (place / "b").mkdir(parents=True)
        await (place / "b" / "c.yaml").write_text("1")
        await (place / "a.png").write_text("2")
        await (place / "link").symlink_to("/etc/passwd")
        job = Unpack(path=str(place), form="directory", what="the bucket", is_filtered=False, reason=REASON)
        unpacked, _ = await download.unpack(job)
    assert files_of(store, unpacked.tree) == {"a.png": b"2", "b/c.yaml": b"1"}


async def test_of_one_path_that_is_there_twice_the_last_stays(intake: Intake, store: ArtifactStore) -> None:
    unpacked, _ = await taken(intake, archive_of(file("a", b"1"), file("./a", b"2")))
    assert files_of(store, unpacked.tree) == {"a": b"2"}


NOISE = random.Random(1).randbytes(200_000).hex()
LIMITS = Limits(entries=3, depth=3, file_bytes=100, artifact_bytes=150)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: archive_of(file("../a")), r"\.\./a .*leads elsewhere"),
        (lambda: archive_of(file("/etc/a")), "leads elsewhere"),
        (lambda: archive_of(file("a/../../b")), "leads elsewhere"),
        (lambda: archive_of(file(".git/config")), "take for .git"),
        (
            lambda: archive_of(file("a", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
            "neither a file nor a directory",
        ),
        (lambda: archive_of(file("a", b"", type=tarfile.CHRTYPE)), "neither a file nor a directory"),
        (lambda: archive_of(file("a", b"", type=tarfile.FIFOTYPE)), "neither a file nor a directory"),
        (lambda: archive_of(file("a"), file("a/b")), "in a directory that is a file"),
        (lambda: archive_of(file("a/b"), file("a")), "a file and a directory"),
        (lambda: archive_of(file("a/b/c/d")), "too deep"),
        (lambda: archive_of(file("a" * 256)), "more than 255 bytes"),
        (lambda: archive_of(file("a", bytes(101))), "has 101 bytes; 100 are the most"),
        (lambda: archive_of(file("a", bytes(90)), file("b", bytes(90))), "at most 150 bytes"),
        (lambda: archive_of(file("a"), file("b"), file("c"), file("d")), "at most 3 files"),
        (lambda: archive_of(file("a\udcff")), "not UTF-8"),
        (lambda: b"", "no tar archive"),
        (lambda: b"<html>not found</html>", "no tar archive"),
        (lambda: archive_of(file("a", b"0123456789" * 9))[:-30], "ends too early"),
        (
            lambda: damaged(
                lzma.compress(gzip.decompress(archive_of(file("a"), file("b", pax_headers={"noise": NOISE}))))
            ),
            "no tar archive",
        ),
        (
            lambda: archive_of(file("a", pax_headers={"GNU.sparse.map": "a,b", "GNU.sparse.size": "1"})),
            "no tar archive",
        ),
    ],
)
async def test_what_is_refused_is_named_and_leaves_nothing(
    store: ArtifactStore, tmp_path: Path, what: Callable[[], bytes], message: str
) -> None:
    async with Intake(store, Settings(limits=LIMITS)) as intake:
        with pytest.raises(FetchError, match=message) as caught:
            await taken(intake, what())
    assert (caught.value.reason, caught.value.final) == (REASON, True)
    directory = tmp_path / "store" / "artifacts.git"
    left = [path for place in ("incoming", "tarballs") for path in (directory / "tidelog" / place).iterdir()]
    assert left == []
    assert not list((directory / "objects" / "pack").glob("*.pack"))


async def test_memory_is_limited(store: ArtifactStore) -> None:
    limits = Limits(file_bytes=2**31, artifact_bytes=2**32)
    data = archive_of(file("large", bytes(300 * 2**20)))
    async with Intake(store, Settings(limits=limits, memory_bytes=200 * 2**20)) as intake:
        with pytest.raises(FetchError, match="memory") as caught:
            await taken(intake, data)
    assert caught.value.reason == REASON
