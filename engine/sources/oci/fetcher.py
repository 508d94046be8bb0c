"""Asks registries and downloads layers: what is asked at once, it asks once."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
import anyio.abc

from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.oci.address import is_digest, repository_of
from tidelog.engine.sources.oci.answers import Reach
from tidelog.engine.sources.oci.choose import check_ref, choose_layer, choose_tag, tag_of
from tidelog.engine.sources.oci.credentials import ANONYMOUS, RegistryCredentials
from tidelog.engine.sources.oci.keyless import Keyless
from tidelog.engine.sources.oci.registry import Registry
from tidelog.engine.sources.oci.spec import OciArtifact, OciHead, OciSpec, head_of
from tidelog.engine.sources.oci.verify import Signers, verify
from tidelog.engine.sources.oci.wire import Manifest, for_default_platform, manifest_of
from tidelog.engine.sources.shared import Shared
from tidelog.engine.tasks import leave, tasks_in
from tidelog.events.vocabulary.fetch import Signature

LAYER_BYTES_MAX: Final = 512 * 2**20
INDEX_DEPTH_MAX: Final = 3
"""An index may list another."""

T = TypeVar("T")


class OciFetcher:
    """Asks and downloads, while it is entered."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._keyless = Keyless()
        self._entered = AsyncExitStack()
        self._digests: Shared[str]
        self._tags: Shared[list[str]]
        self._manifests: Shared[Manifest]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as entered:
            entered.push_async_callback(self.registry.aclose)
            entered.push_async_callback(self._keyless.aclose)
            tasks = await tasks_in(entered)
            self._digests = Shared(tasks)
            self._tags = Shared(tasks)
            self._manifests = Shared(tasks)
            self._entered = entered.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await leave(self._entered, kind, error, traceback)

    async def ask(
        self,
        spec: OciSpec,
        credentials: RegistryCredentials = ANONYMOUS,
        tls: Tls = PLAIN_TLS,
        proxy: Proxy | None = None,
    ) -> OciHead:
        """What the registry has at the source's reference. Costs a small request; none where a digest is named.

        Raises:
            FetchError: when the registry cannot be asked, or has no such reference.
        """
        reach = reach_of(spec, credentials, tls, proxy)
        check_ref(spec.ref)
        if spec.ref.digest:
            return head_of(spec.ref.digest, "")
        return await _within(spec, "OCIArtifactPullFailed", lambda: self._ask(spec, reach))

    async def artifact(
        self,
        spec: OciSpec,
        credentials: RegistryCredentials,
        tls: Tls,
        proxy: Proxy | None,
        head: OciHead,
    ) -> OciArtifact:
        """What the manifest of a head says; asked by digest, so that a tag that moved does not matter.

        Raises:
            FetchError: when it cannot be had, is no manifest, or has no layer that is wanted.
        """
        reach = reach_of(spec, credentials, tls, proxy)
        manifest = await _within(spec, "OCIArtifactPullFailed", lambda: self._manifest(spec, reach, head))
        return OciArtifact(
            head=head, annotations=manifest.annotations or {}, layer=choose_layer(spec, manifest.layers or ())
        )

    async def download(
        self,
        spec: OciSpec,
        credentials: RegistryCredentials,
        tls: Tls,
        proxy: Proxy | None,
        artifact: OciArtifact,
        into: Path,
        limit: int = LAYER_BYTES_MAX,
    ) -> None:
        """Writes an artifact's layer into the new file `into`, whole and verified. Where it fails, there is none.

        Raises:
            FetchError: when the layer cannot be had, or is not what the manifest says.
        """
        reach = reach_of(spec, credentials, tls, proxy)
        await _within(
            spec,
            "OCIArtifactLayerOperationFailed",
            lambda: self.registry.blob(reach, artifact.layer, into, limit),
        )

    async def verify(
        self,
        spec: OciSpec,
        credentials: RegistryCredentials,
        tls: Tls,
        proxy: Proxy | None,
        head: OciHead,
        signers: Signers,
    ) -> Signature:
        """The signature of somebody who may have signed; see `check_verification` for the kinds that there are.

        Args:
            spec: the source.
            credentials: who we are to the registry.
            tls: whom we trust.
            proxy: through whom.
            head: what is signed: the manifest, or the index.
            signers: who may have signed.

        Raises:
            FetchError: `VerificationError`, when it is not signed by any of them.
        """
        reach = reach_of(spec, credentials, tls, proxy)
        return await _within(
            spec, "VerificationError", lambda: verify(self.registry, self._keyless, reach, head, signers)
        )

    async def _ask(self, spec: OciSpec, reach: Reach) -> OciHead:
        key = self.registry.key(reach)
        tag = tag_of(spec.ref)
        if not tag:
            tag = choose_tag(spec, await self._tags.run((key, spec.timeout_s), lambda: self.registry.tags(reach)))
        return head_of(await self._digests.run((key, tag), lambda: self._digest(reach, tag)), tag)

    async def _digest(self, reach: Reach, tag: str) -> str:
        digest = await self.registry.digest(reach, tag)
        if digest is None or not is_digest(digest):
            digest, _ = await self.registry.manifest(reach, tag)
        return digest

    async def _manifest(self, spec: OciSpec, reach: Reach, head: OciHead) -> Manifest:
        key = (self.registry.key(reach), head.digest)
        return await self._manifests.run(key, lambda: self._read(spec, reach, head.digest))

    async def _read(self, spec: OciSpec, reach: Reach, digest: str) -> Manifest:
        for _ in range(INDEX_DEPTH_MAX):
            _, body = await self.registry.manifest(reach, digest)
            found = manifest_of(body)
            if found is None:
                raise _unusable(spec, f"{digest} is neither a manifest nor an index of OCI or Docker (schema 2)")
            if not found.is_index:
                return found
            entry = for_default_platform(found)
            if entry is None or not is_digest(entry.digest):
                raise _unusable(spec, f"the index {digest} has nothing for linux/amd64, or for no platform")
            digest = entry.digest
        raise _unusable(spec, f"more than {INDEX_DEPTH_MAX} indexes in each other")


def reach_of(spec: OciSpec, credentials: RegistryCredentials, tls: Tls, proxy: Proxy | None) -> Reach:
    """Where a source is, and how it is reached.

    Raises:
        FetchError: `URLInvalid`.
    """
    return Reach(
        repository=repository_of(spec.url), credentials=credentials, insecure=spec.insecure, tls=tls, proxy=proxy
    )


async def _within(spec: OciSpec, reason: FetchReason, work: Callable[[], Awaitable[T]]) -> T:
    try:
        with anyio.fail_after(spec.timeout_s):
            return await work()
    except TimeoutError:
        raise FetchError(
            reason,
            f"{spec.url}: the registry did not answer to the end within {spec.timeout_s:g} s: raise spec.timeout, or "
            "look at the registry",
        ) from None


def _unusable(spec: OciSpec, why: str) -> FetchError:
    return FetchError("OCIArtifactPullFailed", f"{spec.url}: {why}: push another", final=bool(spec.ref.digest))
