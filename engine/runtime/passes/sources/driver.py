"""The port to a kind of source, and what its implementations share."""

import base64
import binascii
from abc import ABC, abstractmethod
from typing import TypeVar

import msgspec

from tidelog.engine.kinds.meta import LocalReference
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.run import Run, StageError, asking
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls, proxy_of, tls_of
from tidelog.engine.sources.errors import FetchReason
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.oci.credentials import RegistryCredentials, registry_credentials
from tidelog.events.names import ObjectKey, Revision

T = TypeVar("T")


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a new artifact, as a Kubernetes Event."""

    reason: str = "NewArtifact"
    message: str


class Driver(ABC):
    """Asks and fetches one source, for one pass."""

    @abstractmethod
    async def ask(self) -> Head | None:
        """What the source has now; None where there is nothing to fetch, and nothing is wrong with that.

        Raises:
            FetchError: when it cannot be asked.
            StageError: when something that it needs cannot be had.
        """

    @abstractmethod
    async def fetch(self, head: Head) -> Fetched:
        """Brings what `ask` gave into the artifact store.

        Raises:
            FetchError: when it cannot be fetched; nothing of it is left behind.
        """

    @abstractmethod
    def is_outdated(self) -> bool:
        """Whether the artifact was made by other rules than the spec's."""

    def looked_at(self, head: Head) -> Revision | None:  # noqa: ARG002 - most have no source of their own
        """The revision of the source that an answer was found in, where the source is made of another."""
        return None

    def forget(self) -> None:  # noqa: B027 - most remember nothing
        """Forgets what was just fetched: something of it is not in the store after all."""

    @property
    def directory(self) -> str:
        """Where a source is that is a directory on this machine; empty for all others."""
        return ""

    @abstractmethod
    def news(self, fetched: Fetched) -> News:
        """What is told of a new artifact."""


def of_kind(part: object, kind: type[T]) -> T:
    """A part of a declared object, which is of that kind.

    Raises:
        TypeError: when it is of another: the driver is not its.
    """
    if not isinstance(part, kind):
        raise TypeError(f"{part!r} is no {kind.__name__}")
    return part


class Secrets:
    """Reads the Secrets that a source names, or another source of which it is made; it is woken when they change.

    What else was read for it in the same pass stays watched: of a chart, the Secrets of each of its dependencies.
    """

    def __init__(
        self, engine: Engine, declared: DeclaredSource, run: Run, failed: FetchReason, *, namespace: str = ""
    ) -> None:
        self._engine = engine
        self._declared = declared
        self._run = run
        self._failed: FetchReason = failed
        self._namespace = namespace or declared.key.namespace
        engine.inputs.looks(declared.stream)

    async def get(self, name: str, field: str, missing: FetchReason = "AuthenticationFailed") -> dict[str, bytes]:
        """The data of a Secret, decoded.

        Args:
            name: of the Secret, in the source's own namespace.
            field: of the spec, for messages.
            missing: the reason of a failure, where there is no such Secret.

        Raises:
            StageError: when it is not there, or cannot be read.
        """
        key = ObjectKey("", "Secret", self._namespace, name)
        secret = await asking("fetch", self._engine.inputs.get(self._declared.stream, key), self._failed)
        if secret is None:
            raise StageError(
                "fetch",
                missing,
                f"spec.{field}: there is no Secret {key.namespace}/{key.name}; create it, or leave {field} out",
            )
        data = _decoded(secret)
        self._run.secrets.add(data.values())
        return data

    async def tls(self, reference: LocalReference | None, field: str = "certSecretRef") -> Tls:
        """The certificates in the Secret that a field names; none where it names none."""
        if reference is None:
            return PLAIN_TLS
        return tls_of(await self.get(reference.name, field), reference.name, field=field)

    async def proxy(self, reference: LocalReference | None) -> Proxy | None:
        """The proxy in the Secret that `spec.proxySecretRef` names."""
        if reference is None:
            return None
        return proxy_of(await self.get(reference.name, "proxySecretRef"), reference.name)

    async def login(self, name: str, field: str, url: str) -> RegistryCredentials:
        """The credentials for a registry in a Secret; the filter knows of it the text as a whole, and not its parts."""
        found = registry_credentials(await self.get(name, field), name, url)
        self._run.secrets.add([part.encode() for part in (found.password, found.token) if part])
        return found

    async def pull_secrets(self, account: str) -> tuple[str, ...]:
        """The names of a ServiceAccount's image pull secrets (contract OC-012).

        Raises:
            StageError: when there is no such ServiceAccount, or it cannot be read.
        """
        found = await self.account(account)
        return tuple(one["name"] for one in found.get("imagePullSecrets") or () if one.get("name"))

    async def account(self, name: str) -> KubeObject:
        """A ServiceAccount of the source's namespace.

        Raises:
            StageError: when there is none, or it cannot be read.
        """
        key = ObjectKey("", "ServiceAccount", self._declared.key.namespace, name)
        found = await asking("fetch", self._engine.inputs.get(self._declared.stream, key), self._failed)
        if found is None:
            raise StageError(
                "fetch",
                "AuthenticationFailed",
                f"spec.serviceAccountName: there is no ServiceAccount {key.namespace}/{name}; create it, or leave "
                "serviceAccountName out",
            )
        return found


def _decoded(secret: KubeObject) -> dict[str, bytes]:
    found = {}
    for name, value in (secret.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value, validate=True)
        except binascii.Error:
            found[name] = value.encode()
    return found
