"""Sealing: deterministic, authenticated, bound to a stream, and never under a key that is not durable."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.keys.conftest import DOCUMENT, OTHER, PLANTED, STREAM, Made, places_of
from tidelog.events.bodies import Body
from tidelog.events.digest import digest_of
from tidelog.events.names import MalformedNameError, StreamName
from tidelog.events.vocabulary import ObjectObserved
from tidelog.storage import ANY, NewEvent, open_log, verify_store
from tidelog.storage.errors import (
    KeyDamagedError,
    KeyMissingError,
    MasterKeyError,
    SecretError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    WrongMasterKeyError,
)
from tidelog.storage.key_files import KeyFiles
from tidelog.storage.keys import DataKey, KeyRing, MasterKey
from tidelog.storage.layout import Layout
from tidelog.storage.log.compression import pack, unpack

MASTER = MasterKey(b"m" * 32, "a test")


def key(seed: bytes = b"k", key_id: str = "ab" * 16) -> DataKey:
    return DataKey(STREAM, key_id, seed * 32, {})


@given(st.binary(max_size=3_000))
def test_what_is_sealed_is_opened_and_stored_as_any_secret_body(plaintext: bytes) -> None:
    body = key().seal(plaintext)
    assert key().open(unpack(pack(body))) == plaintext
    assert (body.ref.secret, body.ref.size, body.ref.stored) == (True, len(plaintext), digest_of(body.data))
    assert body.ref.digest == key().digest(plaintext)
    if len(plaintext) > 7:
        assert plaintext not in body.data


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_equal_content_gives_equal_bodies_under_one_key_only(one: bytes, other: bytes) -> None:
    assert (key().seal(one) == key().seal(other)) == (one == other)
    assert key().digest(one) != key(b"o").digest(one)
    assert key().seal(one).data[17:] != key(b"o").seal(one).data[17:]


def test_the_digest_of_a_leaf_is_none_of_a_body() -> None:
    assert key().leaf_digest("data.a", b"x") != key().digest(b"x")
    assert key().leaf_digest("a", b"bc") != key().leaf_digest("ab", b"c")


@given(st.integers(0), st.integers(1, 255))
def test_a_ciphertext_that_was_changed_is_not_opened(at: int, change: int) -> None:
    body = key().seal(DOCUMENT)
    data = bytearray(body.data)
    data[at % len(data)] ^= change
    changed = Body(ref=msgspec.structs.replace(body.ref, stored=digest_of(bytes(data))), data=bytes(data))
    with pytest.raises(StoreCorruptError):
        key().open(changed)


def test_a_body_under_the_name_of_another_is_not_opened() -> None:
    one, other = key().seal(b"one"), key().seal(b"two")
    with pytest.raises(StoreCorruptError, match="another digest"):
        key().open(Body(ref=msgspec.structs.replace(one.ref, stored=other.ref.stored), data=other.data))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02" + b"\xab" * 40, b"\x01" + b"\xab" * 16, b"\x01" + b"\xab" * 20])
def test_what_is_no_ciphertext_is_damage(data: bytes) -> None:
    ref = msgspec.structs.replace(key().seal(b"x").ref, stored=digest_of(data))
    with pytest.raises(StoreCorruptError):
        key().open(Body(ref=ref, data=data))


def test_keys_do_not_show_themselves() -> None:
    secret = b"k" * 32
    for shown in (f"{key()!r}{key()}", f"{MASTER!r}{MASTER}", MASTER.id, key().id):
        assert "kkkk" not in shown
        assert secret.hex() not in shown


# The ring


def test_a_key_is_the_same_when_the_store_is_opened_again(made: Made) -> None:
    for create in (True, False):
        ring = made.ring(create=create)
        assert ring.open_body(made.body) == DOCUMENT
        assert ring.load(STREAM).seal(DOCUMENT) == made.body
        assert ring.load(OTHER).seal(DOCUMENT) == made.other
    assert made.body.ref.digest != made.other.ref.digest


def test_a_body_that_may_be_seen_needs_no_key(made: Made) -> None:
    assert KeyRing.open(made.layout, None, create=False).open_body(Body.of(b"seen")) == b"seen"


def test_files_are_for_their_owner_only_and_say_which_stream(made: Made) -> None:
    layout = made.layout
    assert layout.keys.stat().st_mode & 0o777 == 0o700
    assert layout.master.stat().st_mode & 0o777 == 0o600
    files = KeyFiles(layout)
    streams = set()
    for name in files.names():
        path = files.directory / name.file
        assert path.stat().st_mode & 0o777 == 0o600
        streams.add(files.read(name).stream)
    assert streams == {STREAM, OTHER}


def test_the_store_holds_what_is_secret_nowhere(made: Made) -> None:
    assert places_of(PLANTED, made.directory) == []


async def test_of_many_tasks_at_once_all_get_the_one_key_of_a_stream(made: Made) -> None:
    ring = await anyio.to_thread.run_sync(lambda: made.ring(create=True))
    bodies: dict[int, list[Body]] = {}

    async def seal(number: int) -> None:
        for turn in range(20):
            stream = StreamName(f"east/core/Secret/shop/new-{turn}")
            bodies.setdefault(turn, []).append((await ring.key(stream)).seal(b"the same" * 100))

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(seal, number)
    assert all(len(found) == 30 and len({body.ref.stored for body in found}) == 1 for found in bodies.values())
    names = await anyio.to_thread.run_sync(lambda: list(KeyFiles(made.layout).names()))
    assert len(names) == 2 + 20


async def test_one_key_seals_in_many_threads(made: Made) -> None:
    sealer = await (await anyio.to_thread.run_sync(made.ring)).key(STREAM)
    sealed: list[Body] = []

    def work() -> None:
        for number in range(200):
            body = sealer.seal(bytes([number]) * 5_000)
            assert sealer.open(body) == bytes([number]) * 5_000
            sealed.append(body)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(anyio.to_thread.run_sync, work)
    assert len({body.data for body in sealed}) == 200


def test_a_cache_that_is_full_costs_time_only(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidelog.storage.keys.CACHED_KEYS_MAX", 2)
    ring = made.ring(create=True)
    names = [StreamName(f"east/core/Secret/shop/new-{number}") for number in range(5)]
    first = [ring.load(name).seal(b"x") for name in names]
    assert [ring.load(name).seal(b"x") for name in names] == first
    assert [ring.open_body(body) for body in first] == [b"x"] * 5


def test_who_only_reads_makes_no_key(made: Made) -> None:
    before = sorted(made.layout.keys.iterdir())
    with pytest.raises(KeyMissingError):
        made.ring().load(StreamName("east/core/Secret/shop/new"))
    with pytest.raises(MasterKeyError):
        KeyRing.open(made.layout, None, create=True).load(StreamName("east/core/Secret/shop/new"))
    assert sorted(made.layout.keys.iterdir()) == before


def test_a_key_is_for_a_stream(made: Made) -> None:
    with pytest.raises(MalformedNameError):
        made.ring(create=True).load(StreamName("../../etc"))


# Durability


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the system, in order: `fsync <name>`, `rename <name>`."""
    told: list[str] = []

    def name_of(descriptor: int) -> str:
        return re.sub(r"[0-9a-f]{64}\.[0-9a-f]{32}", "KEY", Path(f"/proc/self/fd/{descriptor}").readlink().name)

    fsync, rename = os.fsync, Path.rename

    def told_fsync(descriptor: int) -> None:
        told.append(f"fsync {name_of(descriptor)}")
        fsync(descriptor)

    def told_rename(self: Path, target: Path) -> Path:
        told.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(Path, "rename", told_rename)
    return told


def test_a_key_is_durable_before_it_is_given(made: Made, calls: list[str]) -> None:
    ring = made.ring(create=True)
    calls.clear()
    ring.load(StreamName("east/core/Secret/shop/new"))
    assert calls == ["fsync KEY.key.new", "rename", "fsync keys"]
    ring.load(StreamName("east/core/Secret/shop/new"))
    assert len(calls) == 3


def test_the_first_key_makes_its_directory_durable_too(tmp_path: Path, calls: list[str]) -> None:
    async def begin() -> None:
        async with open_log(tmp_path / "store"):
            pass

    anyio.run(begin)
    ring = KeyRing.open(Layout(tmp_path / "store"), MASTER)
    calls.clear()
    ring.load(STREAM)
    assert calls == ["fsync store", "fsync KEY.key.new", "rename", "fsync keys"]


def test_what_a_killed_writer_named_is_made_durable_before_it_is_used(made: Made, calls: list[str]) -> None:
    left = made.layout.keys / ("0" * 64 + "." + "0" * 32 + ".key.new")
    left.write_bytes(b"half a k")
    ring = made.ring(create=True)
    assert calls == ["fsync keys"]
    assert not left.exists()
    assert ring.load(STREAM).open(made.body) == DOCUMENT


@pytest.mark.parametrize("failing", [0, 1])
def test_a_key_that_cannot_be_made_durable_is_not_there(
    made: Made, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = made.ring(create=True)
    before = sorted(made.layout.keys.iterdir())
    done, fsync = [0], os.fsync

    def fails(descriptor: int) -> None:
        done[0] += 1
        if done[0] == failing + 1:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreFullError):
        ring.load(StreamName("east/core/Secret/shop/new"))
    assert sorted(made.layout.keys.iterdir()) == before
    monkeypatch.setattr(os, "fsync", fsync)
    made_later = ring.load(StreamName("east/core/Secret/shop/new"))
    assert made_later.open(made_later.seal(b"x")) == b"x"


# Files that are not as they were


def test_every_changed_byte_of_a_key_is_found_and_verified(made: Made, soak: bool) -> None:
    (name,) = KeyFiles(made.layout).of(STREAM)
    path = made.layout.keys / name.file
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, 1 if soak else 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :])
        with pytest.raises(KeyDamagedError, match=re.escape(str(path))):
            made.ring().load(STREAM)
    path.write_bytes(whole)
    assert made.ring().load(STREAM).open(made.body) == DOCUMENT


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"x" * 2**21])
def test_what_is_no_key_is_damage_and_no_new_key_is_made_in_its_place(made: Made, content: bytes) -> None:
    (name,) = KeyFiles(made.layout).of(STREAM)
    (made.layout.keys / name.file).write_bytes(content)
    (other,) = KeyFiles(made.layout).of(OTHER)
    ring = made.ring(create=True)
    with pytest.raises(KeyDamagedError):
        ring.load(STREAM)
    assert ring.load(OTHER).open(made.other) == DOCUMENT
    assert set(KeyFiles(made.layout).names()) == {name, other}


async def test_verification_names_a_damaged_key_and_nothing_else(made: Made) -> None:
    assert (await verify_store(made.directory)).intact
    (name,) = await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)
    (made.layout.keys / name.file).write_bytes(b"{}")
    (finding,) = (await verify_store(made.directory)).findings
    assert finding.what == f"keys/{name.file}"


def swap(layout: Layout) -> None:
    paths = [layout.keys / name.file for name in sorted(KeyFiles(layout).names())]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)


def rename(layout: Layout) -> None:
    (one,), (other,) = KeyFiles(layout).of(STREAM), KeyFiles(layout).of(OTHER)
    (layout.keys / other.file).unlink()
    (layout.keys / one.file).rename(layout.keys / other.file)


def forge(layout: Layout) -> None:
    """A key of another stream, with a checksum that is right: the stream is bound to what is wrapped."""
    files = KeyFiles(layout)
    (one,), (other,) = files.of(STREAM), files.of(OTHER)
    forged = msgspec.structs.replace(files.read(other), wrapped=files.read(one).wrapped).checked()
    for name, content in ((other, forged), (one, files.read(one))):
        (layout.keys / name.file).write_bytes(msgspec.json.encode(content))


@pytest.mark.parametrize("tamper", [swap, rename, forge])
def test_the_key_of_one_stream_never_serves_another(made: Made, tamper: Callable[[Layout], None]) -> None:
    tamper(made.layout)
    with pytest.raises(KeyDamagedError):
        made.ring().load(OTHER)


def test_a_wrong_master_key_is_told_at_once_and_changes_nothing(made: Made) -> None:
    before = {path.name: path.read_bytes() for path in made.layout.keys.iterdir()}
    for create in (True, False):
        with pytest.raises(WrongMasterKeyError, match="not the one that wraps"):
            KeyRing.open(made.layout, MASTER, create=create)
    assert {path.name: path.read_bytes() for path in made.layout.keys.iterdir()} == before


def test_a_key_that_was_lost_is_missing_and_not_damage(made: Made) -> None:
    (name,) = KeyFiles(made.layout).of(STREAM)
    (made.layout.keys / name.file).unlink()
    ring = made.ring(create=True)
    with pytest.raises(KeyMissingError, match=name.id):
        ring.open_body(made.body)
    assert ring.load(STREAM).seal(DOCUMENT) != made.body


def test_a_key_that_comes_back_opens_what_it_sealed_and_seals_no_more(made: Made) -> None:
    (name,) = KeyFiles(made.layout).of(STREAM)
    lost = (made.layout.keys / name.file).read_bytes()
    (made.layout.keys / name.file).unlink()
    later = made.ring(create=True).load(STREAM).seal(DOCUMENT)
    (made.layout.keys / name.file).write_bytes(lost)
    ring = made.ring(create=True)
    assert ring.load(STREAM).seal(DOCUMENT) == later
    assert ring.open_body(made.body) == ring.open_body(later) == DOCUMENT


async def test_a_secret_body_is_stored_once(made: Made) -> None:
    ring = await anyio.to_thread.run_sync(made.ring)
    async with open_log(made.directory) as log:
        body = (await ring.key(STREAM)).seal(DOCUMENT)
        event = ObjectObserved(uid="u", resource_version="2", state=body.ref)
        await log.append(STREAM, ANY, [NewEvent(event)], bodies=[body])
        assert (await log.body(body.ref.digest)) == made.body


def test_every_error_says_in_a_sentence_what_to_do_and_no_key(made: Made) -> None:
    errors: list[StoreError] = [
        WrongMasterKeyError("the file x", "1", Path("y"), "2"),
        KeyDamagedError(Path("y"), "its checksum differs"),
        KeyMissingError("00", Path("keys")),
        MasterKeyError("the file x", "it holds no key"),
    ]
    for error in errors:
        assert isinstance(error, SecretError)
        assert len(str(error).splitlines()) == 1
