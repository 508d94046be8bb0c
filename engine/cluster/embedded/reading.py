"""How objects are read: one, a page of a list, and what changes."""

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

import anyio
import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.label_parser import parse_labels
from tidelog.engine.cluster.embedded.objects import decoded, encoded, listed, sent
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.cluster.embedded.requests import Target, is_true
from tidelog.engine.cluster.embedded.selectors import Matches, matcher, name_selected, parse_fields
from tidelog.engine.cluster.embedded.statuses import bad_request, gone, invalid_kind, not_found, not_yet
from tidelog.engine.cluster.embedded.store import Bucket, Change, Key, Record, Store
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.typed import decoder

BOOKMARK_S: Final = 60.0
"""How often a quiet watch is told which version it has seen."""
WATCH_S: Final = 1_800.0
"""How long a watch lasts that does not say."""
GONE: Final = "too old resource version: {} ({})"
"""With the version of a watch, and the last one that is forgotten."""
LIST_TOO_OLD: Final = "The resourceVersion for the provided list is too old."
_MATCH: Final = "resourceVersionMatch"
_NOT_OLDER: Final = "NotOlderThan"
_MATCHES: Final = ("Exact", _NOT_OLDER, "")
_FORM: Final = "meta.k8s.io/v1"
_END: Final = "\0"
"""No key goes on with it: what begins there comes after the key before it."""
LIST_GONE: Final = "The provided continue parameter is too old to display a consistent list result."


class Page(Struct, frozen=True):
    """Some objects of a list, as JSON, and where it goes on."""

    items: list[bytes]
    version: int
    going_on: str = ""


class _Token(Struct):
    """Where a list goes on, as the real server writes it: a version, and a key below that of the list.

    The version is that of its first page: what changed since is seen all the same. Nothing tells a list from another:
    a token goes on in any, at the same place.
    """

    v: str
    rv: int
    start: str

    @classmethod
    def after(cls, version: int, last: Key, *, of_namespace: bool) -> "_Token":
        """Of what comes after an object, in a list of its namespace or of all."""
        name = last.name if of_namespace or not last.namespace else f"{last.namespace}/{last.name}"
        return cls(_FORM, version, f"/{name}{_END}")

    def last(self, target: Target) -> Key:
        """The object after which a list goes on; it need not be there."""
        below = self.start.removeprefix("/").removesuffix(_END)
        if target.namespace or not target.resource.namespaced:
            return Key(target.namespace, below)
        namespace, _, name = below.partition("/")
        return Key(namespace, name)


class Reader:
    """Reads objects from a store."""

    def __init__(self, store: Store, registry: Registry) -> None:
        """Of the store, in the kinds that are served."""
        self._store = store
        self._registry = registry

    def get(self, target: Target) -> Record:
        """One object.

        Raises:
            StatusError: when it is not there.
        """
        record = self._store.get(target.resource.place, Key(target.namespace, target.name))
        if record is None:
            raise not_found(target.resource, target.name)
        return record

    def page(self, target: Target, query: Mapping[str, str]) -> Page:
        """A page of a list, from the selectors, `limit` and `continue` of a query.

        Raises:
            StatusError: when one of them makes no sense, or the list can no longer be continued.
        """
        resource = target.resource
        bucket, matches = self._store.bucket(resource.place), _matcher_of(resource, query)
        limit = _number(query, "limit")
        self._require_list(query)
        token = _token_of(query)
        if token is not None and token.rv < bucket.compacted:
            raise gone(LIST_GONE)
        version = token.rv if token else self._store.version
        items: list[bytes] = []
        last: Key | None = None
        after = token.last(target) if token else None
        name = name_selected(query.get("fieldSelector", ""))
        for record in bucket.between(target.namespace, after):
            if name and record.key.name != name:
                continue
            if limit and len(items) == limit:  # there is more, and whether it is selected is not looked at
                assert last is not None  # noqa: S101 - there is one in a full page
                token = _Token.after(version, last, of_namespace=bool(target.namespace))
                return Page(items, version, _text_of(token))
            if matches is not None and not matches(decoded(record, resource)):
                continue
            items.append(sent(record, resource))
            last = record.key
        return Page(items, version)

    def _require_list(self, query: Mapping[str, str]) -> None:
        """Whether a list may be asked for so: of a version that there was, and what is kept of it is what is now."""
        _require_options(_wrong_of_list(query))
        self.require_version(query)
        if query.get("resourceVersionMatch") == "Exact" and _version(query) < self._store.version:
            raise gone(LIST_TOO_OLD)

    def require_version(self, query: Mapping[str, str]) -> None:
        """Raises a StatusError for a version that there was not yet, or that is none."""
        version = _version(query)
        if version > self._store.version:
            raise not_yet(version, self._store.version)

    def watch(self, target: Target, query: Mapping[str, str]) -> AsyncGenerator[tuple[str, bytes], None]:
        """Changes: type and object, as JSON. With no version, or 0, it begins with what is there.

        Raises:
            StatusError: at once, when a parameter makes no sense.
        """
        _require_options(_wrong_of_watch(query))
        seen = _version(query)
        lasts_s = _number(query, "timeoutSeconds") or WATCH_S
        if target.name:
            query = _of_one(query, target.name)
        return self._watch(target, query, _matcher_of(target.resource, query), seen, lasts_s)

    async def _watch(
        self, target: Target, query: Mapping[str, str], matches: Matches | None, seen: int, lasts_s: float
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        resource = target.resource
        bookmarks = is_true(query, "allowWatchBookmarks")
        bucket = self._store.bucket(resource.place)
        ends = anyio.current_time() + lasts_s
        initial = is_true(query, "sendInitialEvents") or (not seen and "sendInitialEvents" not in query)
        if not seen or initial:
            seen = self._store.version
        if initial:
            for record in list(bucket.between(target.namespace)):
                if matches is None or matches(decoded(record, resource)):
                    yield "ADDED", sent(record, resource)
            if bookmarks and "sendInitialEvents" in query:
                yield "BOOKMARK", _bookmark(resource, seen, initial=True)
        async with aclosing(self._changes(target, bucket, matches, seen, ends, bookmarks=bookmarks)) as changes:
            async for type_, data in changes:
                yield type_, data

    async def _changes(
        self, target: Target, bucket: Bucket, matches: Matches | None, seen: int, ends: float, *, bookmarks: bool
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        resource = target.resource
        while anyio.current_time() < ends:
            changed = bucket.changed
            changes = bucket.since(seen)
            if changes is None:
                yield "ERROR", encoded(gone(GONE.format(seen, bucket.compacted)).status)
                return
            for change in changes:
                seen = change.record.version
                told = _told(change, target, matches)
                if told is not None:
                    yield told
            if self._registry.at(resource.place) is None:
                return
            with anyio.move_on_after(min(BOOKMARK_S, ends - anyio.current_time())) as quiet:
                await changed.wait()
            if quiet.cancelled_caught and bookmarks and bucket.since(seen) == []:
                seen = max(seen, self._store.version)
                yield "BOOKMARK", _bookmark(resource, seen)


def _of_one(query: Mapping[str, str], name: str) -> Mapping[str, str]:
    """The query of a watch whose path names an object."""
    said = name_selected(query.get("fieldSelector", ""))
    if said not in ("", name):
        raise bad_request("fieldSelector metadata.name doesn't match requested name")
    return {**query, "fieldSelector": f"metadata.name={name}"}


def _require_options(wrong: list[Cause]) -> None:
    if wrong:
        raise invalid_kind("meta.k8s.io", "ListOptions", "", wrong)


def _wrong_of_list(query: Mapping[str, str]) -> list[Cause]:
    """What makes no sense of a list's options, as the server finds it (apimachinery, `ValidateListOptions`)."""
    match, version = query.get(_MATCH, ""), query.get("resourceVersion", "")
    wrong: list[Cause] = []
    if match and not version:
        wrong.append(causes.forbidden(_MATCH, f"{_MATCH} is forbidden unless resourceVersion is provided"))
    if match and query.get("continue"):
        wrong.append(causes.forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided"))
    if match not in _MATCHES:
        wrong.append(causes.not_supported(_MATCH, match, list(_MATCHES)))
    if match == "Exact" and version == "0":
        wrong.append(causes.forbidden(_MATCH, f'{_MATCH} "exact" is forbidden for resourceVersion "0"'))
    if "sendInitialEvents" in query:
        wrong.append(causes.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return wrong


def _wrong_of_watch(query: Mapping[str, str]) -> list[Cause]:
    match, says_initial = query.get(_MATCH, ""), "sendInitialEvents" in query
    wrong: list[Cause] = []
    if says_initial and match != _NOT_OLDER:
        wrong.append(causes.forbidden(_MATCH, f"sendInitialEvents requires setting {_MATCH} to {_NOT_OLDER}"))
    if match and not says_initial:
        wrong.append(causes.forbidden(_MATCH, f"{_MATCH} is forbidden for watch unless sendInitialEvents is provided"))
    if match not in ("", _NOT_OLDER):
        wrong.append(causes.not_supported(_MATCH, match, [_NOT_OLDER]))
    if query.get("continue") and not wrong:
        wrong.append(causes.forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided"))
    return wrong


def _told(change: Change, target: Target, matches: Matches | None) -> tuple[str, bytes] | None:
    """What a watch says of a change: an object that is no longer selected is gone for it."""
    record, resource = change.record, target.resource
    if target.namespace and record.key.namespace != target.namespace:
        return None
    if matches is None:
        return change.type, sent(record, resource)
    was = change.previous is not None and matches(decoded(change.previous, resource))
    now = change.type != "DELETED" and matches(decoded(record, resource))
    if not was and not now:
        return None
    type_ = "MODIFIED" if was and now else "ADDED" if now else "DELETED"
    if type_ == "DELETED" and change.type != "DELETED" and change.previous is not None:
        # The state that was selected, in the version in which it no longer is.
        obj = decoded(change.previous, resource)
        obj["metadata"]["resourceVersion"] = str(record.version)
        return type_, encoded(obj)
    return type_, sent(record, resource)


def _bookmark(resource: Resource, version: int, *, initial: bool = False) -> bytes:
    metadata: KubeObject = {"resourceVersion": str(version)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return encoded({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})


def _matcher_of(resource: Resource, query: Mapping[str, str]) -> Matches | None:
    selectable = frozenset(
        str(one.get("jsonPath", "")).removeprefix(".") for one in (resource.custom or {}).get("selectableFields") or ()
    )
    return matcher(
        parse_labels(query.get("labelSelector", "")),
        parse_fields(
            query.get("fieldSelector", ""), resource.group_kind, selectable, is_custom=resource.custom is not None
        ),
    )


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text:
        return 0
    if not _is_number(text):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax ({name})')
    return int(text)


def _version(query: Mapping[str, str]) -> int:
    text = query.get("resourceVersion", "")
    if text and not _is_number(text):
        raise bad_request(f'Invalid resource version: strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text or 0)


def _is_number(text: str) -> bool:
    """Whether it is one of at most 64 bits."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def _text_of(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def _token_of(query: Mapping[str, str]) -> _Token | None:
    text = query.get("continue", "")
    if not text:
        return None
    try:
        token = decoder(_Token)(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:  # of base64, of JSON
        raise bad_request("continue key is not valid") from None
    if token.v != _FORM or not token.start:
        raise bad_request("continue key is not valid")
    return token


def listing(resource: Resource, page: Page) -> bytes:
    """A page as it is sent."""
    metadata: KubeObject = {"resourceVersion": str(page.version)}
    if page.going_on or resource.custom is not None:  # lists of custom kinds say so, too, where there is no more
        metadata["continue"] = page.going_on
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
    return encoded(head)[:-1] + b',"items":[' + b",".join(listed(item, resource) for item in page.items) + b"]}"
