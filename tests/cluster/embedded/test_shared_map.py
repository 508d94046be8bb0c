"""The sorted map of the embedded store: it does as a dictionary does, and so does each of its copies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.cluster.embedded import shared_map
from tidelog.engine.cluster.embedded.shared_map import SharedMap

KEYS = st.integers(0, 60)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), KEYS),
        st.tuples(st.just("pop"), st.integers(0, 5), KEYS),
        st.tuples(st.just("copy"), st.integers(0, 5), st.just(0)),
    ),
    max_size=120,
)


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(shared_map, "CHUNK_MAX", 4)


@given(STEPS, KEYS)
def test_it_and_its_copies_do_as_dictionaries_do(steps: list[tuple[str, int, int]], start: int) -> None:
    maps: list[SharedMap[int, int]] = [SharedMap()]
    models: list[dict[int, int]] = [{}]
    for number, (what, which, key) in enumerate(steps):
        at = which % len(maps)
        match what:
            case "set":
                maps[at].set(key, number)
                models[at][key] = number
            case "pop":
                assert maps[at].pop(key) == models[at].pop(key, None)
            case _:
                maps.append(maps[at].copy())
                models.append(dict(models[at]))
    for made, model in zip(maps, models, strict=True):
        assert list(made.items()) == sorted(model.items())
        assert list(made.items(start)) == sorted(item for item in model.items() if item[0] >= start)
        assert len(made) == len(model)
        for key in range(61):
            assert made.get(key) == model.get(key)
            assert (key in made) == (key in model)


@given(st.sets(KEYS), KEYS)
def test_it_is_made_of_items_in_order(keys: set[int], other: int) -> None:
    made = SharedMap((key, key) for key in sorted(keys))
    made.set(other, -1)
    assert dict(made.items()) == {**dict.fromkeys(keys, 0), **{key: key for key in keys}, other: -1}


def test_copies_share_what_has_not_changed() -> None:
    first = SharedMap((key, str(key)) for key in range(100))
    second = first.copy()
    second.set(50, "changed")
    third = second.copy()
    first.pop(0)
    shared = {id(chunk) for chunk in first._chunks} & {id(chunk) for chunk in second._chunks}
    assert len(shared) == len(second._chunks) - 2  # one was changed on each side
    assert {id(chunk) for chunk in third._chunks} == {id(chunk) for chunk in second._chunks}
