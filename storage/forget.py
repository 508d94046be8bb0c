"""Forgetting: destroying the data keys of a stream, so that what was secret in it can never be read again.

The log says so first (`StreamForgotten`), and then the keys go; a crash in between is finished by whoever opens the
store next. Events and ciphertexts stay, so that proofs hold and the log verifies.
"""

from collections.abc import Iterable
from contextlib import suppress

import msgspec

from tidelog.events.bodies import Body
from tidelog.events.digest import KEYED, Digest
from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time, shown_time
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import StreamForgotten
from tidelog.storage.errors import BodyNotFoundError, ForgottenError, StoreCorruptError
from tidelog.storage.key_files import KeyFiles, KeyName, stream_hash
from tidelog.storage.log import Query, Recorded
from tidelog.storage.log.reader import LogReader
from tidelog.storage.sealed import key_id_of

FORGETTINGS = Query(types=("StreamForgotten",))


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """What a `StreamForgotten` says."""

    stream: StreamName
    keys: tuple[str, ...]
    position: int
    time: Time
    by: str
    why: str

    @property
    def names(self) -> list[KeyName]:
        """The files of the keys. Those of other streams are never touched, whatever ids the event names."""
        return [KeyName(stream_hash(self.stream), key) for key in self.keys]

    def __str__(self) -> str:
        return f"forgotten on {shown_time(self.time)} by {self.by}: {self.why}"

    @property
    def error(self) -> ForgottenError:
        """What reading such a body raises."""
        return ForgottenError(self.stream, str(self))


def forgettings(reader: LogReader) -> list[Forgetting]:
    """Every forgetting, in the order of the log."""
    found: list[Forgetting] = []
    head, after = reader.head(), 0
    while after < head:
        page, after = reader.next_page(msgspec.structs.replace(FORGETTINGS, after=after, until=head))
        found += [forgetting for recorded in page if (forgetting := _forgetting(recorded)) is not None]
    return found


def forgetting_of(found: Iterable[Forgetting], body: Body) -> Forgetting | None:
    """The forgetting by which a secret body can no longer be read; none where none did."""
    key = key_id_of(body)
    return next((forgetting for forgetting in found if key is not None and key in forgetting.keys), None)


def forgotten_bodies(reader: LogReader, digests: Iterable[Digest]) -> dict[Digest, Forgetting]:
    """Of these bodies, those that were forgotten, and how."""
    wanted = [digest for digest in dict.fromkeys(digests) if digest.startswith(KEYED)]
    known = forgettings(reader) if wanted else []
    found: dict[Digest, Forgetting] = {}
    for digest in wanted if known else ():
        with suppress(BodyNotFoundError, StoreCorruptError):  # verification names those
            forgetting = forgetting_of(known, reader.body(digest))
            if forgetting is not None:
                found[digest] = forgetting
    return found


def finish_forgetting(files: KeyFiles, reader: LogReader) -> None:
    """Destroys every key that the log says is forgotten, and that is still, or again, there.

    Raises:
        StoreError: when the log cannot be read, or a key not be destroyed.
    """
    for forgetting in forgettings(reader):
        files.destroy(forgetting.names)


def _forgetting(recorded: Recorded) -> Forgetting | None:
    event = recorded.event
    return forgetting_said(recorded.envelope, event) if isinstance(event, StreamForgotten) else None


def forgetting_said(envelope: Envelope, event: StreamForgotten) -> Forgetting:
    """What an event says of a forgetting."""
    return Forgetting(
        stream=envelope.stream,
        keys=event.keys,
        position=envelope.position,
        time=envelope.time,
        by=str(envelope.actor),
        why=event.why,
    )
