"""Checkpoints: what the log says of itself, signed.

A checkpoint is a C2SP tlog-checkpoint inside a C2SP signed-note. Of the note's signature types this knows
Ed25519 (0x01), by which a log signs; signatures of other types and by other keys, as witnesses add them, are
left alone. Making a key from random bytes is the storage's business.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidelog.events.merkle import HASH_BYTES

KEY_BYTES = 32
"""Length of an Ed25519 public key, and of the seed of a private one (RFC 8032)."""

SIGNATURES_MAX = 100
"""Most signatures that are read from a note. The specification asks for a limit, and for 16 at least."""

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "
_ID_BYTES = 4
_size_form = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_control = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ValueError):
    """Raised when a key or a note is malformed, or not signed as it should be; the message says which."""


class VerifierKey(msgspec.Struct, frozen=True):
    """The public half of a key, with the name that signature lines give it."""

    name: str
    public: bytes
    """32 bytes, as RFC 8032 encodes them."""

    def __post_init__(self) -> None:
        """Raise `NoteError` for a name that a signature line cannot carry, or a key of the wrong length."""
        if not _is_key_name(self.name):
            raise NoteError(f"malformed key name {self.name!r}: it is empty or has a space, control or +")
        if len(self.public) != KEY_BYTES:
            raise NoteError(f"malformed key: {len(self.public)} bytes are no Ed25519 public key")

    @property
    def id(self) -> bytes:
        """The four bytes by which a signature names the key, beside the name."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        """The key as people pass it on: `<name>+<id in hex>+<base64 of 0x01 and the key>`."""
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """The key in `text`.

        Raises:
            NoteError: when it is malformed, of another signature type, or its id is not that of the key.
        """
        # The name holds no `+`, the base64 may.
        parts = text.split("+", 2)
        data = _unbase64(parts[-1]) if len(parts) == 3 else None
        if data is None:
            raise NoteError(f"malformed key {text!r}: it is not <name>+<id>+<base64>")
        if data[:1] != _ED25519:
            raise NoteError(f"malformed key {text!r}: it is of another type than Ed25519")
        key = cls(parts[0], data[1:])
        if parts[1] != key.id.hex():
            raise NoteError(f"malformed key {text!r}: the id of that name and key is {key.id.hex()}")
        return key

    def verify(self, text: str, signature: bytes) -> bool:
        """Whether `signature` is that of this key over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class SignerKey:
    """A private key. It shows only its public half, so that it may stand in a log line or a traceback."""

    __slots__ = ("_private", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        """Take the key from its 32 seed bytes; raise `NoteError` as `VerifierKey` does."""
        if len(seed) != KEY_BYTES:
            raise NoteError(f"malformed key: {len(seed)} bytes are no Ed25519 seed")
        self._private: Final = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier: Final = VerifierKey(name, self._private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        """The public half."""
        return f"SignerKey({self.verifier.text})"

    def sign(self, text: str) -> bytes:
        """The 64 bytes of the signature over `text`. Ed25519 signs the same text always the same."""
        return self._private.sign(text.encode())


class Checkpoint(msgspec.Struct, frozen=True):
    """The log at one size."""

    origin: str
    """Which log it is. Its key should be named the same; whoever configures the keys sees to that."""
    size: int
    """Number of leaves."""
    root: bytes
    """Root of their tree, 32 bytes."""
    extensions: tuple[str, ...] = ()
    """Further lines, opaque. Tidelog writes none."""

    def __post_init__(self) -> None:
        """Raise `NoteError` for what the text form could not give back."""
        lines = (self.origin, *self.extensions)
        if not all(lines) or any("\n" in line or _control.search(line) for line in lines):
            raise NoteError("malformed checkpoint: origin and extensions are lines that are not empty")
        if not 0 <= self.size < 2**63:
            raise NoteError(f"malformed checkpoint: the size {self.size}")
        if len(self.root) != HASH_BYTES:
            raise NoteError(f"malformed checkpoint: a root of {len(self.root)} bytes")

    @property
    def text(self) -> str:
        """What is signed: origin, size, base64 of the root and the extensions, each ended by a newline."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, _base64(self.root), *self.extensions))

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """The checkpoint in a note's text; raises `NoteError` when it is none."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise NoteError("malformed checkpoint: it has three lines or more, each ended")
        origin, size, root, *extensions = lines
        if not _size_form.fullmatch(size):
            raise NoteError(f"malformed checkpoint: the size {size!r}")
        data = _unbase64(root)
        if data is None:
            raise NoteError(f"malformed checkpoint: the root {root!r} is not base64")
        return cls(origin, int(size), data, tuple(extensions))


def sign(checkpoint: Checkpoint, signer: SignerKey) -> str:
    """The note that says `checkpoint`, signed by `signer`."""
    text = checkpoint.text
    return f"{text}\n{_DASH}{signer.verifier.name} {_base64(signer.verifier.id + signer.sign(text))}\n"


def open_checkpoint(note: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """The checkpoint in `note`, when one of `keys` has signed it.

    Signatures by other keys are ignored, even where name or id alone is that of a known key. One by a known
    key that does not hold condemns the note, whatever others say.

    Raises:
        NoteError: `malformed note …`, `malformed checkpoint …`, `bad signature …` or `no signature …`.
    """
    text, signatures = _parse(note)
    signed = False
    for name, data in signatures:
        for key in keys:
            if (key.name, key.id) == (name, data[:_ID_BYTES]):
                if not key.verify(text, data[_ID_BYTES:]):
                    raise NoteError(f"bad signature of {key.text}")
                signed = True
    if not signed:
        names = ", ".join(f"{name}+{data[:_ID_BYTES].hex()}" for name, data in signatures)
        raise NoteError(f"no signature by a known key; it is signed by {names}")
    return Checkpoint.parse(text)


def peek_checkpoint(note: str) -> Checkpoint:
    """The checkpoint in `note`, whoever has signed it; raises `NoteError` when there is none."""
    text, _ = _parse(note)
    return Checkpoint.parse(text)


def _parse(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and the signatures as (key name, key id and signature) in the order of the note."""
    try:
        note.encode()
    except UnicodeEncodeError:
        raise NoteError("malformed note: it is not UTF-8") from None
    if _control.search(note):
        raise NoteError("malformed note: it holds a control character")
    # The last empty line divides: the text may hold others.
    head, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteError("malformed note: text, an empty line and signatures must follow each other")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteError(f"malformed note: {len(lines)} signatures; {SIGNATURES_MAX} is the most")
    return f"{head}\n", [_parse_signature(line) for line in lines]


def _parse_signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = _unbase64(encoded)
    if not line.startswith(_DASH) or not _is_key_name(name) or data is None or len(data) <= _ID_BYTES:
        raise NoteError(f"malformed note: the signature line {line!r}")
    return name, data


def _is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() or char < " " for char in name)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes | None:
    """The bytes, or None unless `text` is exactly how they are encoded (RFC 4648 section 4)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == text else None
