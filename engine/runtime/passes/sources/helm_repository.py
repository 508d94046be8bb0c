"""HelmRepository (contract 2.6)."""

from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Driver, News, Secrets, of_kind
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.helm.credentials import ANONYMOUS, Credentials, credentials_of
from tidelog.engine.sources.helm.spec import RepositorySpec, Unchanged
from tidelog.engine.sources.intake.jobs import Unpack
from tidelog.events.names import Revision

INDEX = "index.yaml"
"""The index in its tree, and as it is served."""


class IndexHead(Head, frozen=True, kw_only=True):
    """The index that a repository has now: asking for it brings it, where it is new."""

    fetched: Fetched | None = None
    size: int = 0


class HelmRepositoryDriver(Driver):
    """Asks and fetches the index of one HelmRepository."""

    def __init__(self, engine: Engine, declared: DeclaredSource, run: Run) -> None:
        self._engine = engine
        self._declared = declared
        self._spec = of_kind(declared.spec, HelmRepositorySpec)
        self._run = run
        self._credentials, self._tls = ANONYMOUS, PLAIN_TLS
        self._size = 0

    async def ask(self) -> Head | None:
        """See `Driver`."""
        self._credentials, self._tls = await access_of(self._engine, self._declared, self._run)
        row = self._engine.memory.desired.get(self._declared.stream)
        known = row.revision if row is not None and row.artifact is not None else None
        return await self._ask(known or "")

    async def fetch(self, head: Head) -> Fetched:
        """See `Driver`."""
        found = of_kind(head, IndexHead)
        if found.fetched is None:
            found = await self._ask("")
        if found.fetched is None:
            raise TypeError("an index that nobody has is never unchanged")
        self._size = found.size
        return found.fetched

    def is_outdated(self) -> bool:
        """See `Driver`: nothing of the spec changes what an index becomes."""
        return False

    def news(self, fetched: Fetched) -> News:  # noqa: ARG002 - the port's
        """See `Driver` (contract HP-015)."""
        return News(message=f"stored fetched index of size {self._size} from '{self._spec.url}'")

    async def _ask(self, known: str) -> IndexHead:
        fetchers = self._engine.fetchers
        async with fetchers.intake.downloading() as download:
            read = await fetchers.helm.index(
                repository_spec(self._spec),
                download.path,
                credentials=self._credentials,
                tls=self._tls,
                revision=known,
            )
            if isinstance(read, Unchanged):
                return IndexHead(revision=Revision(known))
            job = Unpack(
                path=str(download.path),
                form="file",
                name=INDEX,
                what=f"the index of {self._spec.url}",
                is_filtered=False,
                is_kept=True,
                reason="IndexationFailed",
            )
            fetched = await download.take(read.revision, job)
        return IndexHead(revision=read.revision, fetched=fetched, size=read.size)


async def access_of(
    engine: Engine, declared: DeclaredSource, run: Run, *, of: DeclaredSource | None = None
) -> tuple[Credentials, Tls]:
    """The credentials and certificates of a HelmRepository (contract HP-005, HP-006).

    Args:
        engine: that asks.
        declared: who is woken when a Secret changes.
        run: learns which values are secret.
        of: the repository, where that is another.
    """
    repository = of or declared
    spec = of_kind(repository.spec, HelmRepositorySpec)
    credentials, tls = ANONYMOUS, PLAIN_TLS
    secrets = Secrets(engine, declared, run, "Failed", namespace=repository.key.namespace)
    if spec.secret_ref is not None:
        data = await secrets.get(spec.secret_ref.name, "secretRef")
        credentials, tls = credentials_of(data, spec.secret_ref.name)
    if spec.cert_secret_ref is not None:  # they go before those of secretRef (HP-006)
        tls = await secrets.tls(spec.cert_secret_ref)
    return credentials, tls


def repository_spec(spec: HelmRepositorySpec) -> RepositorySpec:
    """What is asked of a Helm repository."""
    return RepositorySpec(
        url=spec.url, timeout_s=spec.effective_timeout.seconds, pass_credentials=spec.pass_credentials
    )
