"""Data keys: what is secret is sealed under the key of its stream, and named by keyed digests.

A key is durable before anything is sealed under it, and no one seals under a key that was destroyed. Why AES-SIV, and
why nothing is compressed: docs/decisions/0010-secrets.md.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Protocol

import anyio
import anyio.to_thread
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tidelog.events.bodies import Body, BodyRef
from tidelog.events.digest import Digest, digest_of, keyed_digest_of
from tidelog.events.envelope import Actor
from tidelog.events.moment import time_of
from tidelog.events.names import StreamName, stream_name
from tidelog.events.vocabulary import StreamForgotten
from tidelog.storage.errors import (
    KeyDamagedError,
    KeyMissingError,
    MasterKeyError,
    StoreCorruptError,
    WrongMasterKeyError,
)
from tidelog.storage.forget import Forgetting, forgetting_said, forgettings
from tidelog.storage.key_files import FORMAT, KeyFiles, KeyName, WrappedKey, stream_hash
from tidelog.storage.layout import Layout
from tidelog.storage.log import ANY, ExpectedVersion, NewEvent, Recorded
from tidelog.storage.log.reader import LogReader
from tidelog.storage.master_key import KEY_BYTES, MasterKey, derive
from tidelog.storage.sealed import HEADER_BYTES, KEY_ID_BYTES, header_of, key_id_of

__all__ = ["DataKey", "KeyRing", "MasterKey"]

CACHED_KEYS_MAX = 16_384
"""Keys kept ready. When that is full it is emptied: the files still have them."""


class Appends(Protocol):
    """What forgetting needs of an event log."""

    async def append(self, stream: str, expected: ExpectedVersion, events: list[NewEvent]) -> tuple[Recorded, ...]:
        """See `EventLog.append`."""
        ...


class DataKey:
    """The key of what is secret in one stream. Safe for use by several threads; made by a `KeyRing`."""

    __slots__ = ("_cipher", "_digests", "_forgotten", "_leaves", "id", "stream")

    def __init__(self, stream: StreamName, key_id: str, secret: bytes, forgotten: dict[str, Forgetting]) -> None:
        self.stream = stream
        self.id = key_id
        self._cipher = AESSIV(derive(secret, "encryption of bodies", 64))
        self._digests = derive(secret, "digests of bodies", 32)
        self._leaves = derive(secret, "digests of leaves", 32)
        self._forgotten = forgotten

    def seal(self, plaintext: bytes) -> Body:
        """A secret body. The same plaintext gives the same body, so that it is stored once.

        Raises:
            ForgottenError: when the key was destroyed meanwhile; ask the ring for the stream's new one.
        """
        self._refuse_forgotten()
        data = header_of(self.id) + self._cipher.encrypt(plaintext, [b"tidelog 1 body", bytes.fromhex(self.id)])
        digest = keyed_digest_of(plaintext, self._digests)
        return Body(
            ref=BodyRef(digest=digest, size=len(plaintext), secret=True, stored=digest_of(data)),
            data=data,
        )

    def open(self, body: Body) -> bytes:
        """The plaintext of a body that this key sealed.

        Raises:
            ForgottenError: when the key was destroyed.
            StoreCorruptError: when it is not what was sealed.
        """
        self._refuse_forgotten()
        name = f"body {body.ref.digest}"
        if key_id_of(body) != self.id:
            raise StoreCorruptError(name, f"it is not sealed under the key {self.id}")
        try:
            plaintext = self._cipher.decrypt(body.data[HEADER_BYTES:], [b"tidelog 1 body", bytes.fromhex(self.id)])
        except (InvalidTag, ValueError):
            raise StoreCorruptError(name, "its ciphertext is not what was sealed") from None
        if keyed_digest_of(plaintext, self._digests) != body.ref.digest or len(plaintext) != body.ref.size:
            raise StoreCorruptError(name, "its content has another digest or size")
        return plaintext

    def digest(self, data: bytes) -> Digest:
        """The digest by which `seal` names this plaintext: equality is seen, and nothing can be guessed."""
        return keyed_digest_of(data, self._digests)

    def leaf_digest(self, path: str, value: bytes) -> Digest:
        """The digest of one value in an object. Equal values at other paths have other digests."""
        name = path.encode("utf-8", "surrogatepass")
        return keyed_digest_of(len(name).to_bytes(8) + name + value, self._leaves)

    def _refuse_forgotten(self) -> None:
        forgetting = self._forgotten.get(self.id)
        if forgetting is not None:
            raise forgetting.error


class KeyRing:
    """The data keys of a store. Made by `open`, of which there is one for the store's writer."""

    def __init__(
        self, files: KeyFiles, master: MasterKey | None, forgotten: dict[str, Forgetting], *, create: bool
    ) -> None:
        self._files = files
        self._master = master
        self._create = create
        self._forgotten = forgotten
        self._lock = Lock()
        self._names: dict[str, list[KeyName]] = {}
        self._streams: dict[StreamName, DataKey] = {}
        self._ids: dict[str, DataKey] = {}
        for name in files.names():
            if name.id in forgotten:
                continue  # about to be destroyed, by who opens the store to write
            self._names.setdefault(name.stream, []).append(name)

    @classmethod
    def open(cls, layout: Layout, master: MasterKey | None, *, create: bool = True) -> "KeyRing":
        """The keys of the store at `layout`. Blocks; for worker threads.

        Args:
            layout: of the store, whose log is there.
            master: wraps the keys; without it, keys can be forgotten and nothing else.
            create: make keys on demand; for who holds the store to write only.

        Raises:
            WrongMasterKeyError: when the keys that are there are wrapped by another.
            StoreError: when the log cannot be read.
        """
        files = KeyFiles(layout)
        if create:
            files.settle()
        reader = LogReader(layout.log)
        try:
            forgotten = {key: forgetting for forgetting in forgettings(reader) for key in forgetting.keys}
        finally:
            reader.close()
        ring = cls(files, master, forgotten, create=create)
        ring._try_master()
        return ring

    async def key(self, stream: StreamName) -> DataKey:
        """The key under which what is secret in a stream is sealed now; see `load`."""
        known = self._streams.get(stream)
        return known if known is not None else await anyio.to_thread.run_sync(self.load, stream)

    def load(self, stream: StreamName) -> DataKey:
        """As `key`, blocking: read from its file, or made and durable before it is returned.

        Raises:
            KeyMissingError: when there is none, and none is to be made.
            SecretError: when the one that is there cannot be read; no other is made in its place.
            StoreFullError, StoreReadOnlyError: when it cannot be made durable; then it is not there.
        """
        with self._lock:
            known = self._streams.get(stream)
            if known is not None:
                return known
            keys = [self._read(name) for name in self._names.get(stream_hash(stream), ())]
            key = max(keys, key=lambda key: (key[0], key[1].id))[1] if keys else self._make(stream)
            self._keep(key)
            self._streams[stream] = key
            return key

    def open_body(self, body: Body) -> bytes:
        """The content of any body; of a secret one, by the key that its ciphertext names. Blocks.

        Raises:
            ForgottenError: when it was forgotten.
            KeyMissingError: when the key is not here.
            SecretError: when the key cannot be read.
            StoreCorruptError: when the body is damaged.
        """
        if not body.ref.secret:
            return body.data
        key_id = key_id_of(body)
        if key_id is None:
            raise StoreCorruptError(f"body {body.ref.digest}", "it is not sealed as this release seals")
        return self._by_id(key_id).open(body)

    async def forget(self, log: Appends, stream: str, *, why: str, actor: Actor) -> Forgetting | None:
        """Destroys the keys of a stream: what was secret in it can never be read again.

        The log says so before the first key goes. What is sealed later is under a new key. None is returned, and
        nothing done, when the stream has no key.

        Raises:
            StoreError: when it cannot be said, or a key not be destroyed; opening the store again tries once more.
        """
        name = stream_name(stream)
        with anyio.CancelScope(shield=True):  # once said, it is done
            names = await anyio.to_thread.run_sync(self._files.of, name)
            if not names:
                return None
            said = StreamForgotten(keys=tuple(key.id for key in names), why=why)
            (recorded,) = await log.append(name, ANY, [NewEvent(said, actor)])
            forgetting = forgetting_said(recorded.envelope, said)
            await anyio.to_thread.run_sync(self._destroy, forgetting)
        return forgetting

    def _destroy(self, forgetting: Forgetting) -> None:
        with self._lock:
            for key in forgetting.keys:
                self._forgotten[key] = forgetting
                self._ids.pop(key, None)
            known = self._streams.get(forgetting.stream)
            if known is not None and known.id in forgetting.keys:
                del self._streams[forgetting.stream]
            hashed = stream_hash(forgetting.stream)
            self._names[hashed] = [name for name in self._names.get(hashed, ()) if name.id not in forgetting.keys]
            self._files.destroy(forgetting.names)

    def _by_id(self, key_id: str) -> DataKey:
        with self._lock:
            forgetting = self._forgotten.get(key_id)
            if forgetting is not None:
                raise forgetting.error
            known = self._ids.get(key_id)
            if known is None:
                # Looked for in the directory: in a process that only reads, it may have come since.
                name = next((name for name in self._files.names() if name.id == key_id), None)
                if name is None:
                    raise KeyMissingError(key_id, self._files.directory)
                known = self._read(name)[1]
                self._keep(known)
            return known

    def _keep(self, key: DataKey) -> None:
        if len(self._ids) >= CACHED_KEYS_MAX:
            self._ids.clear()
            self._streams.clear()
        self._ids[key.id] = key

    def _read(self, name: KeyName) -> tuple[str, DataKey]:
        """A key that is there, and when it was made."""
        master = self._given()
        wrapped = self._files.read(name)
        path = self._files.directory / name.file
        if wrapped.master != master.id:
            raise WrongMasterKeyError(master.source, master.id, path, wrapped.master)
        secret = master.unwrap(bytes.fromhex(wrapped.wrapped), _about(wrapped))
        if secret is None or len(secret) != KEY_BYTES:
            raise KeyDamagedError(path, "it is not what the master key wrapped")
        return wrapped.made, DataKey(StreamName(wrapped.stream), wrapped.id, secret, self._forgotten)

    def _make(self, stream: StreamName) -> DataKey:
        master = self._given()
        stream_name(stream)
        if not self._create:
            raise KeyMissingError(f"of {stream}", self._files.directory)
        secret = os.urandom(KEY_BYTES)
        plain = WrappedKey(
            format=FORMAT,
            id=os.urandom(KEY_ID_BYTES).hex(),
            stream=stream,
            made=time_of(datetime.now(UTC)),
            master=master.id,
            wrapped="",
        )
        wrapped = master.wrap(secret, _about(plain)).hex()
        name = self._files.write(msgspec.structs.replace(plain, wrapped=wrapped))
        self._names.setdefault(name.stream, []).append(name)
        return DataKey(stream, plain.id, secret, self._forgotten)

    def _given(self) -> MasterKey:
        if self._master is None:
            raise MasterKeyError("nowhere", "none was given")
        return self._master

    def _try_master(self) -> None:
        """Fails at once, and not in the midst of a run, when the master key is not the right one."""
        if self._master is None:
            return
        for names in self._names.values():
            with suppress(KeyDamagedError):  # of that stream alone: told when it is asked for
                self._read(names[0])
                return


def damaged_keys(layout: Layout) -> list[tuple[Path, str]]:
    """The key files that are not as they were written, and why; needs no master key."""
    files = KeyFiles(layout)
    found = []
    for name in sorted(files.names()):
        try:
            files.read(name)
        except KeyDamagedError as error:
            if error.path.exists():  # or it was destroyed meanwhile
                found.append((error.path, str(error)))
    return found


def _about(key: WrappedKey) -> list[bytes]:
    return [key.stream.encode(), key.id.encode(), key.made.encode()]
