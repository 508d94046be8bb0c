"""The store of the embedded cluster: its order, its history, its copies, and lists in pages of it."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.embedded.small import CORE, Small, open_small
from tidelog.engine.cluster.embedded import store as stores
from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.store import Change, Key, Record, Store

PLACE: Place = ("", "configmaps")
OTHER: Place = ("", "secrets")
MAPS = f"{CORE}/configmaps"
keys = st.builds(Key, st.sampled_from(["", "a", "a-b", "b"]), st.sampled_from(["x", "y", "z"]))
writes = st.lists(st.tuples(keys, st.booleans()), max_size=40)


def put(store: Store, key: Key, data: bytes = b"{}") -> None:
    store.put(PLACE, Record(key, store.next_version(), data, f"uid-{key.namespace}-{key.name}"))


def remove(store: Store, key: Key) -> None:
    found = store.get(PLACE, key)
    assert found is not None
    store.remove(PLACE, msgspec.structs.replace(found, version=store.next_version()))


def there(store: Store, namespace: str = "", after: Key | None = None) -> list[Key]:
    return [record.key for record in store.bucket(PLACE).between(namespace, after)]


def told(changes: list[Change] | None) -> list[tuple[str, str]] | None:
    return None if changes is None else [(change.type, change.record.key.name) for change in changes]


@given(writes, st.integers(0, 40), keys)
def test_it_does_as_a_dictionary_does(made: list[tuple[Key, bool]], from_: int, after: Key) -> None:
    """Objects, their order, the ranges of namespaces, and the changes since any version."""
    store, model = Store(), dict[Key, int]()

    def in_order(after: Key, namespace: str = "") -> list[Key]:
        found = (key for key in model if key.path > after.path and (not namespace or key.namespace == namespace))
        return sorted(found, key=lambda key: key.path)

    changes: list[tuple[int, str, Key]] = []
    store.bucket(PLACE)
    for key, goes in made:
        if goes and key not in model:
            continue
        type_ = "DELETED" if goes else "MODIFIED" if key in model else "ADDED"
        changes.append((store.next_version(), type_, key))
        if goes:
            remove(store, key)
            del model[key]
        else:
            put(store, key)
            model[key] = store.version
    assert {record.key: record.version for record in store.bucket(PLACE).between("")} == model
    assert there(store) == in_order(Key("", ""))
    assert there(store, "a") == in_order(Key("", ""), "a")
    assert there(store, "", after) == in_order(after)
    assert there(store, "b", Key("b", "x")) == in_order(Key("b", "x"), "b")
    since = store.bucket(PLACE).since(from_)
    assert since is not None
    found = [(change.record.version, change.type, change.record.key) for change in since]
    assert found == [change for change in changes if change[0] > from_]


def test_versions_are_those_of_the_whole_store() -> None:
    store = Store()
    put(store, Key("n", "a"))
    store.put(OTHER, Record(Key("n", "b"), store.next_version(), b"{}", "u"))
    put(store, Key("n", "a"))
    assert [change.record.version for change in store.bucket(PLACE).since(0) or ()] == [2, 4]


def test_a_place_that_is_new_has_no_history() -> None:
    store = Store()
    put(store, Key("n", "a"))
    assert store.bucket(OTHER).since(store.version - 1) is None
    assert store.bucket(OTHER).since(store.version) == []


def test_the_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HISTORY_MAX", 3)
    store = Store()
    for name in "abcde":
        put(store, Key("n", name))
    bucket = store.bucket(PLACE)
    assert bucket.since(store.version - 4) is None
    assert told(bucket.since(store.version - 3)) == [("ADDED", "c"), ("ADDED", "d"), ("ADDED", "e")]


def test_the_history_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HISTORY_BYTES_MAX", 100)
    store = Store()
    for number in range(5):
        put(store, Key("", str(number)), b"x" * 40)
    assert told(store.bucket(PLACE).since(4)) == [("ADDED", "3"), ("ADDED", "4")]
    assert store.bucket(PLACE).since(3) is None
    put(store, Key("", "large"), b"x" * 1_000)  # the last change is always known
    assert told(store.bucket(PLACE).since(6)) == [("ADDED", "large")]
    put(store, Key("", "small"))
    put(store, Key("", "other"))
    assert told(store.bucket(PLACE).since(7)) == [("ADDED", "small"), ("ADDED", "other")]


def test_what_is_compacted_is_forgotten() -> None:
    store = Store()
    for name in "ab":
        put(store, Key("n", name))
    before = store.version
    store.compact()
    put(store, Key("n", "c"))
    assert store.bucket(PLACE).since(before - 1) is None
    assert told(store.bucket(PLACE).since(before)) == [("ADDED", "c")]
    assert there(store) == [Key("n", "a"), Key("n", "b"), Key("n", "c")]


def test_a_fork_shares_what_was_and_not_what_comes() -> None:
    store = Store()
    put(store, Key("n", "a"), b'{"was": true}')
    put(store, Key("n", "b"))
    journal = store.follow()
    fork = store.fork()
    assert fork.get(PLACE, Key("n", "a")) is store.get(PLACE, Key("n", "a"))
    put(fork, Key("n", "a"), b'{"fork": true}')
    put(fork, Key("n", "c"))
    remove(store, Key("n", "b"))
    assert (there(fork), there(store)) == ([Key("n", "a"), Key("n", "b"), Key("n", "c")], [Key("n", "a")])
    first = store.get(PLACE, Key("n", "a"))
    assert first is not None
    assert first.data == b'{"was": true}'
    assert (fork.version, store.version) == (5, 4)
    assert [change.type for _, change in journal] == ["DELETED"]
    assert fork.bucket(PLACE).since(2) is None


# ---------------------------------------------------------------------------------------------- through the API


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        await opened.create("/api/v1/namespaces", {"metadata": {"name": "test-b"}})
        for name in ("c", "a", "b"):
            await opened.create(MAPS, {"metadata": {"name": name}})
        await opened.create("/api/v1/namespaces/test-b/configmaps", {"metadata": {"name": "d"}})
        yield opened


async def test_a_list_in_pages(small: Small) -> None:
    first = await small.get(f"{MAPS}?limit=3")
    assert [one["metadata"]["name"] for one in first["items"]] == ["a", "b", "c"]
    going_on = first["metadata"]["continue"]
    await small.delete(f"{MAPS}/c")  # where the list goes on from
    second = await small.get(f"{MAPS}?limit=3&continue={going_on}")
    assert [one["metadata"]["name"] for one in second["items"]] == ["kube-root-ca.crt"]
    assert "continue" not in second["metadata"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_no_more_is_deleted_than_a_page(small: Small) -> None:
    for number in range(5):
        await small.create(MAPS, {"metadata": {"name": f"m{number}", "labels": {"a": "b"}}})
    gone = await small.ask("DELETE", f"{MAPS}?labelSelector=a%3Db&limit=2")
    assert [one["metadata"]["name"] for one in gone["items"]] == ["m0", "m1"]
    assert await small.names(f"{MAPS}?labelSelector=a%3Db") == ["m2", "m3", "m4"]
    on = gone["metadata"]["continue"]
    await small.ask("DELETE", f"{MAPS}?labelSelector=a%3Db&limit=2&continue={on}")
    assert await small.names(f"{MAPS}?labelSelector=a%3Db") == ["m4"]
    await small.ask("DELETE", f"{MAPS}?labelSelector=a%3Db")
    assert await small.names(f"{MAPS}?labelSelector=a%3Db") == []


async def test_pages_after_a_compaction_are_refused(small: Small) -> None:
    first = await small.get(f"{MAPS}?limit=1")
    await small.create(MAPS, {"metadata": {"name": "e"}})
    small.store.compact()
    status, refused = await small.answer("GET", f"{MAPS}?limit=1&continue={first['metadata']['continue']}")
    assert (status, refused["reason"]) == (410, "Expired")


async def test_a_page_that_was_not_given_is_refused(small: Small) -> None:
    assert (await small.answer("GET", f"{MAPS}?limit=1&continue=nonsense"))[0] == 400


async def test_a_watch_from_before_a_compaction_is_told_that_it_is_too_late(small: Small) -> None:
    before = small.store.version
    await small.create(MAPS, {"metadata": {"name": "e"}})
    events = await small.watch(f"{MAPS}?resourceVersion={before}", 1)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [("ADDED", "e")]
    small.store.compact()
    (event,) = await small.watch(f"{MAPS}?resourceVersion={before}", 2)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    now = small.store.version
    await small.delete(f"{MAPS}/e")
    (event,) = await small.watch(f"{MAPS}?resourceVersion={now}", 1)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", "e")


async def test_a_watch_ends_with_its_kind(small: Small) -> None:
    schema = {"type": "object"}
    names = {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": versions}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await small.create(definitions, {"metadata": {"name": "things.example.com"}, "spec": spec})
    things = "/apis/example.com/v1/namespaces/test/things"
    async with small.watching(things, 1) as taken:
        await small.delete(f"{definitions}/things.example.com")
    assert taken == []
