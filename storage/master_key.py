"""The master key: it wraps the data keys, and is kept where whoever runs Tidelog says.

A store that is given none makes its own beside the log (`master.key`). That guards backups and exports, which leave it
out, but not a copy of the whole directory; whoever wants that guarded too gives a file elsewhere, or a command.
"""

import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tidelog.storage.errors import MasterKeyError, StoreReadOnlyError
from tidelog.storage.key_files import NEW, KeyFiles, write_private
from tidelog.storage.layout import Layout, read_text, sync, writing

KEY_BYTES = 32
VALUE = "TIDELOG_MASTER_KEY"
FILE = "TIDELOG_MASTER_KEY_FILE"
COMMAND = "TIDELOG_MASTER_KEY_COMMAND"
COMMAND_SECONDS_MAX = 30.0
COMMAND_BYTES_MAX = 4_096
"""Of each of a command's two outputs."""
_hex = re.compile(r"[0-9a-fA-F]{64}")
_base64 = re.compile(r"[A-Za-z0-9+/]{43}=")
_opaque = re.compile(r"[A-Za-z0-9+/=_.-]{20,}")
"""In the errors of a command: what could be a key or a token, and no word."""


def derive(secret: bytes, purpose: str, length: int) -> bytes:
    """A key for one purpose from a key (HKDF-SHA-256)."""
    return HKDF(SHA256(), length, salt=None, info=f"tidelog 1 {purpose}".encode()).derive(secret)


class MasterKey:
    """A master key, and where it came from."""

    __slots__ = ("_cipher", "id", "source")

    def __init__(self, secret: bytes, source: str) -> None:
        self._cipher = AESSIV(derive(secret, "wrapping of data keys", 64))
        self.id = derive(secret, "fingerprint of a master key", 8).hex()
        """Tells master keys apart, and says nothing of the key."""
        self.source = source

    def wrap(self, key: bytes, about: list[bytes]) -> bytes:
        """Encrypts a data key; `about` is bound to it."""
        return self._cipher.encrypt(key, [b"tidelog 1 data key", *about])

    def unwrap(self, wrapped: bytes, about: list[bytes]) -> bytes | None:
        """The data key; None when it is not one that this key wrapped, or is about something else."""
        try:
            return self._cipher.decrypt(wrapped, [b"tidelog 1 data key", *about])
        except (InvalidTag, ValueError):
            return None

    @classmethod
    def of_text(cls, text: str, source: str) -> "MasterKey":
        """The key in a text: 32 random bytes in hex or base64.

        Raises:
            MasterKeyError: when it holds none. What it holds is not told.
        """
        text = text.strip()
        if _hex.fullmatch(text):
            return cls(bytes.fromhex(text), source)
        if _base64.fullmatch(text):
            return cls(b64decode(text), source)
        raise MasterKeyError(
            source, f"it holds no {KEY_BYTES} bytes in hex or base64 (`openssl rand -hex 32` makes some)"
        )

    @classmethod
    def of_file(cls, path: Path) -> "MasterKey":
        """The key in a file.

        Raises:
            MasterKeyError: when it cannot be read, or holds none.
        """
        source = f"the file {path}"
        try:
            return cls.of_text(read_text(path), source)
        except OSError as error:
            raise MasterKeyError(source, error.strerror or "it cannot be read") from None
        except UnicodeDecodeError:
            raise MasterKeyError(source, "it is no text") from None

    @classmethod
    def of_command(cls, command: str, seconds: float = COMMAND_SECONDS_MAX) -> "MasterKey":
        """The key that a command prints; it is run without a shell, and without a master key in its environment.

        Raises:
            MasterKeyError: when it cannot be run, fails, takes too long, prints too much, or prints none.
        """
        try:
            arguments = shlex.split(command)
        except ValueError as error:
            raise MasterKeyError("the command", str(error)) from None
        if not arguments:
            raise MasterKeyError("the command", "it is empty")
        source = f"the command {Path(arguments[0]).name}"  # of it only its name: arguments may hold secrets
        return cls.of_text(_output_of(arguments, source, seconds), source)


def find_master_key(layout: Layout, environment: Mapping[str, str], *, create: bool) -> MasterKey:
    """The master key that the environment gives, or else the store's own, which is made if `create` is set.

    Raises:
        MasterKeyError: when there is none, or more than one is given.
        StoreFullError, StoreReadOnlyError: when one cannot be made.
    """
    given = [name for name in (VALUE, FILE, COMMAND) if environment.get(name)]
    if len(given) > 1:
        raise MasterKeyError(" and ".join(given), "give one of them only")
    if given:
        return _given(given[0], environment[given[0]])
    if create and not layout.master.exists():
        _make(layout)
    master = MasterKey.of_file(layout.master)
    _refuse_open(layout.master)
    return master


def _given(name: str, value: str) -> MasterKey:
    if name == FILE:
        return MasterKey.of_file(Path(value))
    if name == COMMAND:
        return MasterKey.of_command(value)
    return MasterKey.of_text(value, f"the variable {VALUE}")


def _make(layout: Layout) -> None:
    """Makes the store's own master key; durable, and never in the place of another."""
    first = next(KeyFiles(layout).names(), None)
    if first is not None:
        raise MasterKeyError(
            f"the file {layout.master}",
            f"it is not there, and {layout.keys / first.file} is wrapped by it: put it back, or give it by {FILE}",
        )
    with writing(layout.directory):
        unfinished = layout.master.with_name(layout.master.name + NEW)
        unfinished.unlink(missing_ok=True)
        write_private(unfinished, os.urandom(KEY_BYTES).hex().encode() + b"\n")
        with suppress(FileExistsError):
            os.link(unfinished, layout.master)
        unfinished.unlink()
        sync(layout.directory)


def _refuse_open(path: Path) -> None:
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise StoreReadOnlyError(path.parent, error.strerror or str(error)) from None
    if mode & 0o077:
        raise MasterKeyError(f"the file {path}", f"others may read it (mode {mode:o}): `chmod 600` it")


def _output_of(arguments: list[str], source: str, seconds: float) -> str:
    """What a command prints; its errors, filtered, when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != VALUE}
    try:
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise MasterKeyError(source, error.strerror or "it cannot be run") from None
    try:
        out, errors, why = _collect(process, time.monotonic() + seconds)
    finally:
        # The whole group: what the command itself started could go on holding the pipes.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if not why and code != 0:
        why = f"it ended with exit code {code}"
    if why:
        raise MasterKeyError(source, why + _told(errors, out))
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise MasterKeyError(source, "it printed no text") from None


def _collect(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, bytes, str]:
    """Both outputs of a process until it ends, and why it was not let to."""
    outputs: dict[IO[bytes], bytearray] = {pipe: bytearray() for pipe in (process.stdout, process.stderr) if pipe}
    why = ""
    with selectors.DefaultSelector() as selector:
        for pipe in outputs:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and not why:
            left = deadline - time.monotonic()
            for key, _ in selector.select(max(left, 0)) if left > 0 else ():
                pipe = next(known for known in outputs if known is key.fileobj)
                chunk = os.read(key.fd, COMMAND_BYTES_MAX)
                if not chunk:
                    selector.unregister(pipe)
                elif len(outputs[pipe]) + len(chunk) <= COMMAND_BYTES_MAX:
                    outputs[pipe] += chunk
                elif pipe is process.stdout:
                    why = f"it printed more than {COMMAND_BYTES_MAX} bytes"
            if left <= 0:
                why = "it took too long"
        if not why:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                why = "it took too long"
    out, errors = outputs.values()
    return bytes(out), bytes(errors), why


def _told(errors: bytes, out: bytes) -> str:
    """What a command said of its failure, without anything that could be a key."""
    text = errors.decode(errors="replace")
    for line in out.decode(errors="replace").splitlines():
        if line.strip():
            text = text.replace(line.strip(), "***")
    words = " ".join(_opaque.sub("***", text).split())
    return f" ({''.join(c for c in words if c.isprintable())[:500]})" if words else ""
