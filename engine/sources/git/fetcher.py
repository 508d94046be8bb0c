"""Asks and fetches Git repositories: what the same remote is asked at once, it is asked once."""

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched
from tidelog.engine.sources.git.address import remote_of
from tidelog.engine.sources.git.choose import check_ref, choose, prefixes_of
from tidelog.engine.sources.git.credentials import ANONYMOUS, Credentials
from tidelog.engine.sources.git.pktline import Refs
from tidelog.engine.sources.git.spec import GitHead, GitSpec, revision_of
from tidelog.engine.sources.git.transport import FileTransport, HttpTransport, Transport, is_file, refused_file
from tidelog.engine.sources.intake.intake import DEFAULT_SETTINGS, Intake, Settings
from tidelog.engine.sources.intake.jobs import Brought, Identity, Transfer
from tidelog.engine.sources.intake.workers import DamageError
from tidelog.engine.sources.shared import Shared
from tidelog.engine.tasks import leave, tasks_in
from tidelog.events.moment import time_of
from tidelog.events.vocabulary.fetch import Person
from tidelog.storage.artifacts import ArtifactStore, Tarball
from tidelog.storage.artifacts.store import REFS

HAVE_MAX: Final = 8
"""Commits that a remote is told we have; the newest, which are the likeliest bases."""
K = TypeVar("K")
T = TypeVar("T")

RECENT_MAX: Final = 1024
"""Fetches that other sources of the same remote share afterwards."""


class GitFetcher:
    """Asks and fetches, while it is entered.

    Args:
        store: where what is fetched is kept; opened to write.
        local: the one repository on this machine that may be read; its address is `file://` and its resolved path.
        settings: limits.
        intake: what takes in what is fetched, where it is shared with other kinds of sources.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        local: Path | None = None,
        settings: Settings = DEFAULT_SETTINGS,
        intake: Intake | None = None,
    ) -> None:
        self._store = store
        self._intake = Intake(store, settings) if intake is None else intake
        self._is_intake_ours = intake is None
        self._directory = local
        self._local: FileTransport | None = None
        # Credentials are told apart by a key that is nowhere written down.
        self._http = HttpTransport(secrets.token_bytes(32))
        self._entered = AsyncExitStack()
        self._asking: Shared[Refs]
        self._fetching: Shared[tuple[Brought, Tarball]]
        self._recent: OrderedDict[Hashable, Brought] = OrderedDict()
        self._transferred: OrderedDict[Hashable, None] = OrderedDict()
        """Remotes and commits: what one source just transferred is there for others, whatever they leave out of it."""
        self._turns: dict[Hashable, anyio.Lock] = {}
        self._addresses: OrderedDict[Hashable, str] = OrderedDict()
        """Where remotes were last found, redirects followed."""
        self._times: OrderedDict[str, int] = OrderedDict()
        """When a commit was made, where versions are equal and that decides."""

    async def __aenter__(self) -> Self:
        if self._directory is not None:
            self._local = await anyio.to_thread.run_sync(FileTransport, self._directory)
        async with AsyncExitStack() as entered:
            entered.push_async_callback(self._http.aclose)
            if self._is_intake_ours:
                await entered.enter_async_context(self._intake)
            tasks = await tasks_in(entered)
            self._asking = Shared(tasks)
            self._fetching = Shared(tasks)
            self._entered = entered.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await leave(self._entered, kind, error, traceback)

    async def ask(self, spec: GitSpec, credentials: Credentials = ANONYMOUS) -> GitHead:
        """What the remote has at the source's reference. Costs two small requests; none where a commit is named.

        Raises:
            FetchError: when the remote cannot be asked, or has no such reference.
        """
        transport = self._transport(spec.url)
        check_ref(spec.ref)
        if spec.ref.commit:
            return GitHead(revision_of(spec.ref, spec.ref.commit, ""), spec.ref.commit)
        refs = await self._refs(spec, transport, credentials)
        found = choose(spec.ref, refs.by_name, refs.address).commits
        name = max(found) if len(set(found.values())) == 1 else await self._newest(spec, credentials, found)
        return GitHead(revision_of(spec.ref, found[name], name), found[name], name)

    async def fetch(self, spec: GitSpec, credentials: Credentials, head: GitHead) -> Fetched:
        """Brings a revision into the store. When this returns, it is there durably, and kept by a ref.

        A commit that this source fetched before is not transferred again, nor one that another source just fetched, or
        is fetching, from the same remote with the same credentials, whatever either leaves out of it.

        Where the reference moved since it was asked for, what is fetched is what it leads to now.

        Raises:
            FetchError: when it cannot be fetched; nothing of it is left behind.
        """
        transport = self._transport(spec.url)
        check_ref(spec.ref)
        brought, tarball = await self._brought(spec, transport, credentials, head)
        await self._intake.in_thread(self._store.keep, {f"{_source(spec)}/{brought.commit}": brought.commit})
        return Fetched(
            revision=revision_of(spec.ref, brought.commit, head.name),
            tree=brought.tree,
            artifact=tarball.digest,
            size=tarball.size,
            path=tarball.path,
            author=_person(brought.author),
            committer=_person(brought.committer),
            message=brought.message,
        )

    def forget(self) -> None:
        """Forgets what was just fetched: something of it is not in the store after all."""
        self._recent.clear()
        self._transferred.clear()

    async def _refs(self, spec: GitSpec, transport: Transport, credentials: Credentials) -> Refs:
        prefixes = prefixes_of(spec.ref)
        key = (transport.key(spec.url, credentials), prefixes)
        try:
            with anyio.fail_after(spec.timeout_s):
                refs = await self._asking.run(key, lambda: transport.refs(spec.url, credentials, prefixes))
        except TimeoutError:
            raise FetchError(
                "GitOperationFailed",
                f"{_shown(spec.url)} did not answer within {spec.timeout_s:g} s: "
                "raise spec.timeout, or look at the remote",
            ) from None
        _remember(self._addresses, key[0], refs.address)
        return refs

    async def _newest(self, spec: GitSpec, credentials: Credentials, found: dict[str, str]) -> str:
        """Of tags whose versions are equal, the one whose commit is the newest (GR-010): they have to be fetched."""
        for name, commit in found.items():
            if commit not in self._times:
                head = GitHead(revision_of(spec.ref, commit, name), commit, name)
                brought, _ = await self._brought(spec, self._transport(spec.url), credentials, head)
                _remember(self._times, commit, brought.committer.time_s)
        return max(found, key=lambda name: (self._times.get(found[name], 0), name))

    async def _brought(
        self, spec: GitSpec, transport: Transport, credentials: Credentials, head: GitHead
    ) -> tuple[Brought, Tarball]:
        remote = transport.key(spec.url, credentials)
        key = (remote, head.commit, spec.ignore)
        recent = self._recent.get(key)
        if recent is not None:
            tarball = await anyio.to_thread.run_sync(self._store.find_tarball, recent.tree)
            if tarball is not None:
                return recent, tarball
        is_known = await anyio.to_thread.run_sync(self._store.holds, f"{_source(spec)}/{head.commit}") is not None
        call = (key, spec.timeout_s, is_known, head.name)
        brought, tarball = await self._fetching.run(
            call, lambda: self._bring(spec, transport, credentials, head, is_known=is_known)
        )
        _remember(self._recent, (remote, brought.commit, spec.ignore), brought)
        return brought, tarball

    async def _bring(
        self, spec: GitSpec, transport: Transport, credentials: Credentials, head: GitHead, *, is_known: bool
    ) -> tuple[Brought, Tarball]:
        if not is_known:
            key = (transport.key(spec.url, credentials), head.commit)
            async with self._turn(key, spec.timeout_s):
                if key not in self._transferred:
                    have = tuple(await anyio.to_thread.run_sync(self._have, spec))
                    brought, tarball = await self._transfer(spec, transport, credentials, head, have)
                    _remember(self._transferred, (key[0], brought.commit), None)
                    return brought, tarball
        try:
            return await self._run(self._job(spec, head), credentials)
        except DamageError:  # what is there is not whole: all of it is fetched again
            return await self._transfer(spec, transport, credentials, head, ())

    @asynccontextmanager
    async def _turn(self, key: Hashable, limit_s: float) -> AsyncIterator[None]:
        """Waits until no other source transfers the same, as long as a transfer may take: then it is done beside it."""
        turn = self._turns.setdefault(key, anyio.Lock())
        with anyio.move_on_after(limit_s) as waiting:
            await turn.acquire()
        try:
            yield
        finally:
            if not waiting.cancelled_caught:
                turn.release()
            if not turn.locked() and self._turns.get(key) is turn:
                del self._turns[key]

    async def _transfer(
        self, spec: GitSpec, transport: Transport, credentials: Credentials, head: GitHead, have: tuple[str, ...]
    ) -> tuple[Brought, Tarball]:
        # Redirects are found out by asking, which has been done but where a commit is named.
        address = self._addresses.get(transport.key(spec.url, credentials))
        if address is None:
            address = (await self._refs(spec, transport, credentials)).address
        branch = spec.ref.branch if not head.name else ""
        job = msgspec.structs.replace(self._job(spec, head), want=head.name, branch=branch, have=have)
        whole = transport.job(job, spec.url, address, credentials)
        try:
            return await self._run(whole, credentials)
        except DamageError:
            if not have:
                raise
            return await self._run(msgspec.structs.replace(whole, have=()), credentials)

    def _job(self, spec: GitSpec, head: GitHead) -> Transfer:
        return Transfer(
            commit=head.commit,
            ignore=spec.ignore,
            limits=self._intake.limits,
            timeout_s=spec.timeout_s,
        )

    async def _run(self, job: Transfer, credentials: Credentials) -> tuple[Brought, Tarball]:
        try:
            return await self._intake.transfer(job)
        except FetchError as error:
            raise type(error)(error.reason, credentials.hide(error.message), final=error.final) from None

    def _have(self, spec: GitSpec) -> list[str]:
        return self._store.newest_below(_source(spec), HAVE_MAX)

    def _transport(self, url: str) -> Transport:
        if not is_file(url):
            return self._http
        if self._local is None or not self._local.serves(url):
            raise refused_file(url)
        return self._local


def _source(spec: GitSpec) -> str:
    """Where the refs of a source are. Git takes no name that ends in `.lock`, and Kubernetes none with a plus sign."""
    return f"{REFS}/gitrepository/{spec.namespace}/{spec.name}" + ("+" if spec.name.endswith(".lock") else "")


def _shown(url: str) -> str:
    """An address without the credentials that may be in it."""
    return url if is_file(url) else remote_of(url, ANONYMOUS).url


def _remember(known: OrderedDict[K, T], key: K, value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > RECENT_MAX:
        known.popitem(last=False)


def _person(identity: Identity) -> Person:
    try:
        time = time_of(datetime.fromtimestamp(identity.time_s, UTC))
    except (ValueError, OverflowError, OSError):
        time = None  # the commit claims a time that no calendar has
    return Person(name=identity.name, email=identity.email, time=time)
