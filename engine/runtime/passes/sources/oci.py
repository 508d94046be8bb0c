"""OCIRepository (contract 2.5)."""

import msgspec

from tidelog.engine.kinds.conditions import SOURCE_VERIFIED, find
from tidelog.engine.kinds.meta import ORIGIN_REVISION
from tidelog.engine.kinds.ocirepository import OCIReference, OCIRepositorySpec, OCIRepositoryStatus
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Driver, News, Secrets, of_kind
from tidelog.engine.runtime.passes.sources.logins import RegistryLogin, account_name, registry_login
from tidelog.engine.runtime.passes.sources.signers import read_signers
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.intake.jobs import Unpack
from tidelog.engine.sources.oci.credentials import RegistryCredentials
from tidelog.engine.sources.oci.spec import OciHead, OciRef, OciSpec
from tidelog.engine.sources.oci.verify import Signers

ORIGIN_SOURCE = "org.opencontainers.image.source"


class OciDriver(Driver):
    """Asks and fetches one OCIRepository."""

    def __init__(self, engine: Engine, declared: DeclaredSource, run: Run) -> None:
        self._engine = engine
        self._declared = declared
        self._spec = of_kind(declared.spec, OCIRepositorySpec)
        self._run = run
        self._login = RegistryLogin()
        self._tls: Tls = PLAIN_TLS
        self._proxy: Proxy | None = None
        self._signers: Signers | None = None

    async def ask(self) -> Head | None:
        """See `Driver`."""
        await self._read(Secrets(self._engine, self._declared, self._run, "OCIArtifactPullFailed"))
        spec, oci = self._oci_spec(), self._engine.fetchers.oci
        return await self._login.at(lambda who: oci.ask(spec, who, self._tls, self._proxy))

    async def fetch(self, head: Head) -> Fetched:
        """See `Driver`: asked by digest, so that a tag that moves meanwhile does not matter (OC-021)."""
        return await self._login.at(lambda who: self._fetch(of_kind(head, OciHead), who))

    async def _fetch(self, found: OciHead, who: RegistryCredentials) -> Fetched:
        fetchers, spec = self._engine.fetchers, self._oci_spec()
        reached = (who, self._tls, self._proxy)
        signature = None
        if self._signers is not None:  # before anything of it is taken
            signature = await fetchers.oci.verify(spec, *reached, found, self._signers)
        artifact = await fetchers.oci.artifact(spec, *reached, found)
        async with fetchers.intake.downloading() as download:
            await fetchers.oci.download(spec, *reached, artifact, download.path)
            is_copied = self._spec.operation == "copy"
            job = Unpack(
                path=str(download.path),
                form="any" if is_copied else "archive",
                name=artifact.layer.digest.replace(":", "-"),
                what=f"the layer {artifact.layer.digest} of {self._spec.url}",
                is_filtered=not is_copied,
                is_kept=is_copied,
                ignore=self._spec.ignore,
                reason="OCIArtifactLayerOperationFailed",
            )
            fetched = await download.take(found.revision, job)
        return msgspec.structs.replace(fetched, signature=signature, metadata=artifact.annotations)

    def is_outdated(self) -> bool:
        """See `Driver`."""
        status = of_kind(self._declared.status, OCIRepositoryStatus)
        was, now = status.observed_layer_selector, self._spec.layer_selector
        if (status.observed_ignore, was) != (self._spec.ignore, now):
            return True
        verified = find(status.conditions, SOURCE_VERIFIED)
        is_verified = (
            verified is not None
            and verified.status == "True"
            and verified.observed_generation == self._declared.generation
        )
        return self._spec.verify is not None and not is_verified  # contract OC-024

    def news(self, fetched: Fetched) -> News:
        """See `Driver` (contract OC-026)."""
        said = [f"stored artifact with revision '{fetched.revision}' from '{self._spec.url}'"]
        source, revision = fetched.metadata.get(ORIGIN_SOURCE), fetched.metadata.get(ORIGIN_REVISION)
        said += [f"origin source '{source}'"] if source else []
        said += [f"origin revision '{revision}'"] if revision else []
        return News(message=", ".join(said))

    async def _read(self, secrets: Secrets) -> None:
        """The Secrets that the spec names."""
        spec = self._spec
        if spec.verify is not None:
            self._signers = await read_signers(secrets, spec.verify)
        self._tls = await secrets.tls(spec.cert_secret_ref)
        self._proxy = await secrets.proxy(spec.proxy_secret_ref)
        self._login = await self._read_login(secrets)

    async def _read_login(self, secrets: Secrets) -> RegistryLogin:
        """What a Secret gives; only where none is named, what a cloud gives (contract OC-010)."""
        spec = self._spec
        if spec.secret_ref is not None:
            return RegistryLogin(await secrets.login(spec.secret_ref.name, "secretRef", spec.url))
        names = await secrets.pull_secrets(spec.service_account_name) if spec.service_account_name else ()
        for name in names:
            found = await secrets.login(name, "serviceAccountName", spec.url)
            if not found.is_anonymous:
                return RegistryLogin(found)
        if names or spec.provider == "generic":
            return RegistryLogin()
        return await registry_login(
            self._engine,
            self._declared,
            self._run,
            secrets,
            cloud=spec.provider,
            url=spec.url,
            account=account_name(self._engine, spec.service_account_name),
            proxy=self._proxy,
            insecure=spec.insecure,
            timeout_s=spec.timeout.seconds,
        )

    def _oci_spec(self) -> OciSpec:
        ref = self._spec.ref or OCIReference()
        return OciSpec(
            url=self._spec.url,
            ref=OciRef(digest=ref.digest, semver=ref.semver, semver_filter=ref.semver_filter, tag=ref.tag),
            layer_media_type=self._spec.media_type,
            layer_operation=self._spec.operation,
            insecure=self._spec.insecure,
            timeout_s=self._spec.timeout.seconds,
        )
