"""GitRepository (contract 2.4)."""

import shlex

from tidelog.engine.kinds.gitrepository import GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.later import UNSUPPORTED, credentials_left
from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Driver, News, Secrets, of_kind
from tidelog.engine.runtime.run import Run, StageError
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.git.credentials import ANONYMOUS, Credentials, credentials_of
from tidelog.engine.sources.git.spec import GitHead, GitRef, GitSpec
from tidelog.events.names import ObjectKey

LOCAL_REPOSITORY = "tidelog.dev/repository"
"""Annotation: the directory that `--repo` named; heeded of the engine's own source only, and of no other directory."""
BOOTSTRAP_NAME = "flux-system"
"""Of the source and the target that `--repo` makes, as `flux bootstrap` names them."""
SUBJECT_LENGTH_MAX = 50


def local_url(directory: str) -> str:
    """What `spec.url` says of a directory that `--repo` named: the API takes no address of one."""
    return f"https://localhost{directory}"


class GitDriver(Driver):
    """Asks and fetches one GitRepository."""

    def __init__(self, engine: Engine, declared: DeclaredSource, run: Run) -> None:
        self._engine = engine
        self._declared = declared
        self._spec = of_kind(declared.spec, GitRepositorySpec)
        self._run = run
        self._credentials = ANONYMOUS

    async def ask(self) -> Head | None:
        """See `Driver`."""
        self._credentials = await self._read_credentials()
        return await self._engine.fetchers.git.ask(self._git_spec(), self._credentials)

    async def fetch(self, head: Head) -> Fetched:
        """See `Driver`."""
        return await self._engine.fetchers.git.fetch(self._git_spec(), self._credentials, of_kind(head, GitHead))

    def is_outdated(self) -> bool:
        """See `Driver`."""
        return of_kind(self._declared.status, GitRepositoryStatus).observed_ignore != self._spec.ignore

    def forget(self) -> None:
        """See `Driver`."""
        self._engine.fetchers.git.forget()

    @property
    def directory(self) -> str:
        """See `Driver`."""
        local = self._engine.local
        return str(local) if local is not None and self._address() == local.as_uri() else ""

    def news(self, fetched: Fetched) -> News:
        """See `Driver` (contract GR-030)."""
        subject = fetched.message.partition("\n")[0][:SUBJECT_LENGTH_MAX]
        return News(message=f"stored artifact for commit '{subject}'")

    async def _read_credentials(self) -> Credentials:
        reference = self._spec.secret_ref
        if reference is None:
            return ANONYMOUS
        secrets = Secrets(self._engine, self._declared, self._run, "GitOperationFailed")
        data = await secrets.get(reference.name, "secretRef")
        left = credentials_left(data.keys(), reference.name)
        if left:
            raise StageError("fetch", UNSUPPORTED, "; ".join(left), final=True, stalled=True)
        return credentials_of(data, reference.name)

    def _git_spec(self) -> GitSpec:
        ref = self._spec.reference
        return GitSpec(
            namespace=self._declared.key.namespace,
            name=self._declared.key.name,
            url=self._address(),
            ref=GitRef(branch=ref.branch, tag=ref.tag, semver=ref.semver, name=ref.name, commit=ref.commit),
            ignore=self._spec.ignore,
            timeout_s=self._spec.timeout.seconds,
        )

    def _address(self) -> str:
        """The repository's address: for the one that `--repo` names, the directory on this machine.

        Raises:
            FetchError: when it is a directory that this daemon was not told of.
        """
        local = self._engine.local
        named = self._declared.annotations.get(LOCAL_REPOSITORY)
        own = ObjectKey(SOURCE_GROUP, "GitRepository", self._engine.settings.runtime_namespace, BOOTSTRAP_NAME)
        if named is None or self._declared.key != own:
            return self._spec.url
        if local is not None and named == str(local):
            return local.as_uri()
        if self._spec.url == local_url(named):
            raise FetchError(
                "URLInvalid",
                f"the repository is the directory {named}, which is read by a daemon that was told so only: "
                f"start the daemon with --repo {shlex.quote(named)}",
                final=True,
            )
        return self._spec.url
