"""The names of content."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.events.bodies import Body
from tidelog.events.digest import digest_of, digest_of_json, is_digest, keyed_digest_of

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("data", "hexadecimal"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_digest_is_sha_256(data: bytes, hexadecimal: str) -> None:
    assert digest_of(data) == f"sha256:{hexadecimal}"


@pytest.mark.parametrize(
    ("key", "data", "hexadecimal"),
    [
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ],
)
def test_keyed_digest_equals_the_vectors_of_rfc_4231(key: bytes, data: bytes, hexadecimal: str) -> None:
    assert keyed_digest_of(data, key) == f"hmac-sha256:{hexadecimal}"


@given(st.binary(), st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_keyed_digests_are_equal_for_equal_content_under_one_key_only(a: bytes, k: bytes, other: bytes) -> None:
    assert keyed_digest_of(a, k) == keyed_digest_of(bytes(bytearray(a)), k)
    # HMAC pads keys with zeros: these two are one key.
    if k.rstrip(b"\0") != other.rstrip(b"\0"):
        assert keyed_digest_of(a, k) != keyed_digest_of(a, other)


@given(st.binary(), st.binary(max_size=64))
def test_what_is_made_is_a_digest_and_a_keyed_one_is_never_taken_for_a_plain_one(data: bytes, key: bytes) -> None:
    plain, keyed = digest_of(data), keyed_digest_of(data, key)
    assert is_digest(plain)
    assert is_digest(keyed)
    assert (plain.partition(":")[0], keyed.partition(":")[0]) == ("sha256", "hmac-sha256")


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "sha256:",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}\n",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"SHA256:{HEX}",
        f"sha1:{HEX}",
        f"sha512:{HEX}",
        f"hmac-sha256:{HEX[1:]}",
        f"hmac-sha256:sha256:{HEX}",
        f"sha256:{HEX[:-1]}\N{ARABIC-INDIC DIGIT TWO}",
    ],
)
def test_other_text_is_no_digest(text: str) -> None:
    assert not is_digest(text)


def test_digest_of_json_does_not_depend_on_the_order_of_keys_or_the_kind_of_sequence() -> None:
    assert digest_of_json({"b": [1, 2], "a": None}) == digest_of_json({"a": None, "b": (1, 2)})
    assert digest_of_json({"b": [1, 2], "a": None}) == digest_of(b'{"a":null,"b":[1,2]}')
    assert digest_of_json({"b": [2, 1], "a": None}) != digest_of_json({"b": [1, 2], "a": None})


@given(st.binary())
def test_body_that_may_be_seen_is_named_by_its_bytes(data: bytes) -> None:
    body = Body.of(data)
    assert (body.data, body.ref.size) == (data, len(data))
    assert body.ref.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert not body.ref.secret
    assert body.ref.stored is None
