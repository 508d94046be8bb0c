"""JSON paths of columns: whoever defines a kind chooses them."""

import time

from tidelog.engine.cluster.embedded.json_paths import first_of


def test_a_path_that_is_none_is_found_out_at_once() -> None:
    began = time.monotonic()
    assert first_of({"a": [{}]}, ".a[?(@." + "\\a" * 200) == (False, None)
    assert time.monotonic() - began < 1


def test_a_key_with_a_dot_selects_items() -> None:
    obj = {"a": [{"b.c": "1", "d": "2"}]}
    assert first_of(obj, r'.a[?(@.b\.c=="1")].d') == (True, "2")
