"""Signed notes against the vectors of others, and against tampering."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.events.merkle import EMPTY_ROOT
from tidelog.events.note import Checkpoint, NoteError, SignerKey, VerifierKey, open_checkpoint, sign

# Published with Go's sumdb note: a key, and its signature of a text that is no checkpoint.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="

# The example of C2SP tlog-cosignature: a checkpoint signed by its log and by a witness.
COSIGNED = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\N{EM DASH} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501

LOG = SignerKey("example.com/log", bytes(range(32)))
OTHER = SignerKey("example.com/other", bytes(32))
CHECKPOINT = Checkpoint("example.com/log", 42, EMPTY_ROOT)
NOTE = sign(CHECKPOINT, LOG)
WITNESS = "\N{EM DASH} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRa\n"


def test_go_key() -> None:
    key = VerifierKey.parse(GO_KEY)
    assert (key.name, key.id.hex(), key.text) == ("PeterNeumann", "c74f20a3", GO_KEY)
    assert SignerKey("PeterNeumann", GO_SEED).verifier == key


def test_go_signature() -> None:
    signature = base64.b64decode(GO_SIGNATURE)
    key = VerifierKey.parse(GO_KEY)
    assert signature[:4] == key.id
    assert key.verify(GO_TEXT, signature[4:])
    assert not key.verify(GO_TEXT + "\n", signature[4:])
    assert SignerKey("PeterNeumann", GO_SEED).sign(GO_TEXT) == signature[4:]


def test_go_note_is_signed_but_no_checkpoint() -> None:
    note = f"{GO_TEXT}\n\N{EM DASH} PeterNeumann {GO_SIGNATURE}\n"
    with pytest.raises(NoteError, match="malformed checkpoint: it has three lines or more, each ended"):
        open_checkpoint(note, [VerifierKey.parse(GO_KEY)])


def test_the_specification_s_checkpoint() -> None:
    checkpoint = Checkpoint.parse(COSIGNED.partition("\n\n")[0] + "\n")
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    with pytest.raises(NoteError, match=r"signed by example.com/behind-the-sofa\+033de0ae, witness.*8d66cf3f"):
        open_checkpoint(COSIGNED, [LOG.verifier])


def test_signing_and_opening() -> None:
    assert CHECKPOINT.text == "example.com/log\n42\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert NOTE.startswith(CHECKPOINT.text + "\n\N{EM DASH} example.com/log ")
    assert open_checkpoint(NOTE, [OTHER.verifier, LOG.verifier]) == CHECKPOINT


def test_signatures_by_others_are_tolerated() -> None:
    assert open_checkpoint(NOTE + WITNESS, [LOG.verifier]) == CHECKPOINT
    text, line = NOTE.split("\n\n")
    assert open_checkpoint(f"{text}\n\n{WITNESS}{line}", [LOG.verifier]) == CHECKPOINT
    # The same name with another id is another key, and the other way round.
    same_name = SignerKey("example.com/log", bytes(32))
    assert open_checkpoint(NOTE + sign(CHECKPOINT, same_name).split("\n\n")[1], [LOG.verifier]) == CHECKPOINT
    assert open_checkpoint(NOTE + line.replace("/log", "/other"), [LOG.verifier, OTHER.verifier]) == CHECKPOINT


def test_no_known_signature() -> None:
    with pytest.raises(NoteError, match=rf"no signature by a known key; .* example.com/log\+{LOG.verifier.id.hex()}"):
        open_checkpoint(NOTE, [OTHER.verifier])
    with pytest.raises(NoteError, match="no signature by a known key"):
        open_checkpoint(NOTE, [])


def test_a_bad_signature_condemns_the_note() -> None:
    cosigned = NOTE + sign(Checkpoint("example.com/log", 43, EMPTY_ROOT), OTHER).split("\n\n")[1]
    with pytest.raises(NoteError, match=r"bad signature of example.com/other\+"):
        open_checkpoint(cosigned, [LOG.verifier, OTHER.verifier])
    assert open_checkpoint(cosigned, [LOG.verifier]) == CHECKPOINT


def test_every_changed_character_is_noticed() -> None:
    for at, char in enumerate(NOTE):
        for other in ("A", "\n", chr(ord(char) ^ 1)):
            if other != char:
                with pytest.raises(NoteError):
                    open_checkpoint(NOTE[:at] + other + NOTE[at + 1 :], [LOG.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        CHECKPOINT.text,
        CHECKPOINT.text + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\n", "\r\n"),
        NOTE + "\N{EM DASH} witness\n",
        NOTE + "\N{EM DASH} witness AAAA\n",
        NOTE + "\N{EM DASH} witness A===\n",
        NOTE + "\N{EM DASH} wit+ness jWbPPwAAAABk\n",
        NOTE + "witness jWbPPwAAAABk\n",
        NOTE.replace("example", "exa\tmple"),
        NOTE.replace("example", "exa\udc00mple"),
        NOTE + WITNESS * 100,
    ],
)
def test_malformed_notes(note: str) -> None:
    with pytest.raises(NoteError, match="malformed note: "):
        open_checkpoint(note, [LOG.verifier])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n42\n",
        CHECKPOINT.text[:-1],
        CHECKPOINT.text.replace("42", "042"),
        CHECKPOINT.text.replace("42", "-1"),
        CHECKPOINT.text.replace("42", "4\u0662"),
        CHECKPOINT.text.replace("42", "9" * 19),
        CHECKPOINT.text.replace("example.com/log", ""),
        CHECKPOINT.text.replace("47DEQ", "47DE"),
        CHECKPOINT.text.replace("uFU=", "uFV="),
        CHECKPOINT.text.replace("47DEQpj8HBSa", ""),
        CHECKPOINT.text + "\n",
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(NoteError, match="malformed checkpoint: "):
        Checkpoint.parse(text)


lines = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1)


@given(lines, st.integers(min_value=0, max_value=2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(lines))
def test_checkpoints_round_trip(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert Checkpoint.parse(checkpoint.text) == checkpoint
    assert open_checkpoint(sign(checkpoint, LOG), [LOG.verifier]) == checkpoint


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [("", 0, EMPTY_ROOT), ("a\nb", 0, EMPTY_ROOT), ("log", -1, EMPTY_ROOT), ("log", 0, b"short")],
)
def test_checkpoints_that_cannot_be(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(NoteError, match="malformed checkpoint: "):
        Checkpoint(origin, size, root)


@given(st.binary(min_size=32, max_size=32), st.from_regex(r"[^\s+\x00-\x1f\ud800-\udfff]+", fullmatch=True))
def test_keys_round_trip(seed: bytes, name: str) -> None:
    key = SignerKey(name, seed).verifier
    assert VerifierKey.parse(key.text) == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not <name>"),
        ("PeterNeumann", "is not <name>"),
        (GO_KEY[:-1], "is not <name>"),
        (GO_KEY.replace("c74f20a3", "c74f20a4"), "the id of that name and key is c74f20a3"),
        (GO_KEY.replace("c74f20a3", "C74F20A3"), "the id of that name and key is c74f20a3"),
        (GO_KEY.replace("Peter", "Petra"), "the id of that name and key is"),
        (GO_KEY.replace("+ARpc", "+BRpc"), "of another type than Ed25519"),
        (GO_KEY.replace("PeterNeumann", ""), "malformed key name"),
        (GO_KEY.replace("PeterNeumann", "Peter Neumann"), "malformed key name"),
        (GO_KEY.replace("10TW", ""), "29 bytes are no Ed25519 public key"),
    ],
)
def test_malformed_keys(text: str, message: str) -> None:
    with pytest.raises(NoteError, match=message):
        VerifierKey.parse(text)


def test_a_seed_of_the_wrong_length() -> None:
    with pytest.raises(NoteError, match="31 bytes are no Ed25519 seed"):
        SignerKey("log", bytes(31))


def test_a_private_key_does_not_show() -> None:
    seed = bytes(range(100, 132))
    signer = SignerKey("log", seed)
    shown = f"{signer} {signer!r} {[signer]}"
    assert signer.verifier.text in shown
    assert seed.hex() not in shown
    assert base64.b64encode(seed).decode() not in shown
    assert repr(seed) not in shown
