"""Charts in registries: of a HelmRepository of the type oci, or what a chart of a tree depends on."""

import msgspec

from tidelog.engine.kinds.helmchart import ChartVerification
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Secrets
from tidelog.engine.runtime.passes.sources.logins import RegistryLogin, registry_login
from tidelog.engine.runtime.passes.sources.signers import read_signers
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.helm.spec import ANY_VERSION
from tidelog.engine.sources.oci.spec import CHART_LAYER, OciRef, OciSpec
from tidelog.engine.sources.oci.verify import Signers
from tidelog.engine.sources.semver import version_of


class ChartReach(msgspec.Struct, frozen=True, kw_only=True):
    """A chart's own repository in a registry, how it is reached, and who may have signed."""

    spec: OciSpec
    login: RegistryLogin
    tls: Tls = PLAIN_TLS
    signers: Signers | None = None


async def read_reach(
    engine: Engine,
    declared: DeclaredSource,
    run: Run,
    registry: HelmRepositorySpec,
    *,
    chart: str,
    version: str,
    verify: ChartVerification | None = None,
) -> ChartReach:
    """How a version of a chart is reached in a registry: with the Secrets that it names, or the login of its cloud.

    Raises:
        FetchError: when one of them cannot be used.
        StageError: when one is not there, or cannot be read.
    """
    url = f"{registry.url.rstrip('/')}/{chart}"
    secrets = Secrets(engine, declared, run, "ChartPullError")
    login = RegistryLogin()
    if registry.secret_ref is not None:
        login = RegistryLogin(await secrets.login(registry.secret_ref.name, "secretRef", url))
    elif registry.provider != "generic":  # as the engine itself: a HelmRepository names no account
        timeout_s = registry.effective_timeout.seconds
        login = await registry_login(
            engine,
            declared,
            run,
            secrets,
            cloud=registry.provider,
            url=url,
            insecure=registry.insecure,
            timeout_s=timeout_s,
        )
    tls = await secrets.tls(registry.cert_secret_ref)
    signers = None if verify is None else await read_signers(secrets, verify)
    is_exact = version_of(version) is not None
    asked = OciSpec(
        url=url,
        # One version needs no list of all tags (contract HC-002).
        ref=OciRef(tag=version.replace("+", "_")) if is_exact else OciRef(semver=version or ANY_VERSION),
        layer_media_type=CHART_LAYER,
        insecure=registry.insecure,
        timeout_s=registry.effective_timeout.seconds,
    )
    return ChartReach(spec=asked, login=login, tls=tls, signers=signers)
