"""GitRepository, source.toolkit.fluxcd.io/v1 (contract 2.4)."""

from typing import Annotated, ClassVar, Literal

import msgspec

from tidelog.engine.kinds.durations import Interval, SourceTimeout
from tidelog.engine.kinds.meta import (
    DEFAULT_TIMEOUT,
    READY_MESSAGE,
    READY_STATUS,
    SOURCE_GROUP,
    Artifact,
    Column,
    Condition,
    KubeStruct,
    LocalReference,
    ObjectMeta,
    Resource,
    Rule,
)
from tidelog.engine.objects.kube import KubeObject

DEFAULT_BRANCH = "master"


class GitReference(KubeStruct, frozen=True, kw_only=True):
    """What to check out. If several fields are set, commit goes before name, tag, semver and branch (GR-007)."""

    branch: str = ""
    """Branch to follow; master where no field is set."""
    tag: str = ""
    """Tag to check out; goes before semver and branch."""
    semver: str = ""
    """Range of versions: the highest tag in it is checked out; goes before branch."""
    name: str = ""
    """Full name of a reference, for example refs/heads/main or refs/pull/1/head; goes before tag, semver and branch."""
    commit: str = ""
    """Commit to check out; goes before all others. With a branch, the commit is looked for there."""


class GitVerification(KubeStruct, frozen=True, kw_only=True):
    """Which signatures a revision needs."""

    mode: Annotated[
        Literal["head", "HEAD", "Tag", "TagAndHEAD"], msgspec.Meta(extra_json_schema={"default": "HEAD"})
    ] = "HEAD"
    """What is verified: the commit (HEAD), the tag, or both."""
    secret_ref: LocalReference
    """Secret with the public keys of trusted authors: PGP under keys that end in .asc, SSH in .sshpub."""


class GitInclude(KubeStruct, frozen=True, kw_only=True):
    """Another GitRepository whose artifact is copied into this one's."""

    repository: LocalReference
    """The other GitRepository."""
    from_path: str = ""
    """Directory of the other's artifact to copy; its root where it is not given."""
    to_path: str = ""
    """Directory to copy to; the other's name where it is not given."""


def _identity_has_its_provider(spec: KubeObject) -> bool:
    return "serviceAccountName" not in spec or spec.get("provider") in ("aws", "azure")


class GitRepositorySpec(KubeStruct, frozen=True, kw_only=True):
    """Where a repository is, and what to fetch of it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.serviceAccountName) || "
            "(has(self.provider) && (self.provider == 'azure' || self.provider == 'aws'))",
            "serviceAccountName can only be set when provider is 'azure' or 'aws'",
            _identity_has_its_provider,
        ),
    )

    url: Annotated[str, msgspec.Meta(pattern="^(http|https|ssh)://.*$")]
    """Address of the repository: http, https or ssh."""
    secret_ref: LocalReference | None = None
    """Secret with credentials: username and password, or bearerToken; identity and known_hosts for ssh; ca.crt."""
    provider: Literal["generic", "aws", "azure", "github"] | None = None
    """Who authenticates: generic (the default; credentials of secretRef), aws, azure or github."""
    service_account_name: str = ""
    """ServiceAccount whose cloud identity is used; for the providers aws and azure only."""
    interval: Interval
    """How often the repository is asked for something new."""
    timeout: Annotated[SourceTimeout, msgspec.Meta(extra_json_schema={"default": "60s"})] = DEFAULT_TIMEOUT
    """Limit of each Git operation; 60s where it is not given."""
    ref: GitReference | None = None
    """What to check out; the branch master where it is not given."""
    verify: GitVerification | None = None
    """Signatures that a revision needs."""
    proxy_secret_ref: LocalReference | None = None
    """Secret with the proxy to use: address, and username and password if it asks for them."""
    ignore: str | None = None
    """Patterns, in the form of .gitignore, of files that are left out of the artifact."""
    suspend: bool = False
    """Whether the repository is left alone for now."""
    recurse_submodules: bool = False
    """Whether submodules are fetched too."""
    include: tuple[GitInclude, ...] = ()
    """Other GitRepositories whose artifacts are copied into this one's."""
    sparse_checkout: tuple[str, ...] = ()
    """Directories that the artifact holds; the whole repository where none is given."""

    @property
    def reference(self) -> GitReference:
        """What to check out, with its default (contract GR-007)."""
        return self.ref if self.ref is not None and self.ref != GitReference() else GitReference(branch=DEFAULT_BRANCH)

    @property
    def effective_provider(self) -> str:
        """Who authenticates, with its default (contract GR-005)."""
        return self.provider or "generic"


class GitRepositoryStatus(KubeStruct, frozen=True, kw_only=True):
    """What was fetched, and how it went (contract GR-029)."""

    observed_generation: int = 0
    """Last generation that was dealt with."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    artifact: Artifact | None = None
    """What was last fetched."""
    included_artifacts: tuple[Artifact, ...] = ()
    """Artifacts of other GitRepositories that were copied into this one's."""
    observed_ignore: str | None = None
    """The spec's ignore with which the artifact was made."""
    observed_recurse_submodules: bool = False
    """The spec's recurseSubmodules with which the artifact was made."""
    observed_include: tuple[GitInclude, ...] = ()
    """The spec's include with which the artifact was made."""
    observed_sparse_checkout: tuple[str, ...] = ()
    """The spec's sparseCheckout with which the artifact was made."""
    source_verification_mode: str | None = None
    """What was verified: HEAD, Tag or TagAndHEAD."""
    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""


class GitRepository(KubeStruct, frozen=True, kw_only=True):
    """A Git repository whose revisions become artifacts."""

    resource: ClassVar[Resource] = Resource(
        group=SOURCE_GROUP,
        version="v1",
        kind="GitRepository",
        plural="gitrepositories",
        short_names=("gitrepo",),
        categories=("all", "fluxcd", "fluxcd-sources"),
        columns=(
            Column("URL", ".spec.url"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
        ),
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: GitRepositorySpec
    status: GitRepositoryStatus = GitRepositoryStatus()
