"""Who a source is to a registry: what a Secret gave, or what a cloud gives (contract OC-010, HP-008, CM-089)."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Secrets
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.access import Proxy
from tidelog.engine.sources.clouds.accounts import account_of, audience_of
from tidelog.engine.sources.clouds.hosts import registry_question
from tidelog.engine.sources.clouds.logins import Login as Answered
from tidelog.engine.sources.clouds.questions import NAMES, Account, Cloud, Granted, Question
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci.address import repository_of
from tidelog.engine.sources.oci.credentials import ANONYMOUS, RegistryCredentials

GATE: Final = "ObjectLevelWorkloadIdentity"

T = TypeVar("T")


class CloudLogin:
    """A login at a cloud, for one pass of one source."""

    def __init__(
        self, engine: Engine, declared: DeclaredSource, run: Run, question: Question, timeout_s: float
    ) -> None:
        self._engine = engine
        self._declared = declared
        self._run = run
        self._question = question
        self._timeout_s = timeout_s
        self._last: Answered | None = None

    async def granted(self) -> Granted:
        """What the cloud gives, or gave before.

        Raises:
            FetchError: when it gives nothing.
        """
        cloud, account = self._question.cloud, self._question.account
        prove = None if account is None else partial(self._prove, account)
        try:
            with anyio.fail_after(self._timeout_s):
                found = await self._engine.fetchers.clouds.ask(self._question, prove)
        except TimeoutError:
            why = f"{NAMES[cloud]} does not let us in within {self._timeout_s:g} s"
            raise FetchError("AuthenticationFailed", f"spec.provider: {why}: raise spec.timeout") from None
        self._engine.on_login(self._declared.stream, found.was_kept)
        self._run.secrets.add(part.encode() for part in (found.granted.secret, found.granted.session) if part)
        self._last = found
        return found.granted

    async def renewed(self) -> Granted | None:
        """Another than was given last, which was refused; None where that was new itself."""
        last = self._last
        if last is None:
            return None
        self._engine.fetchers.clouds.forget(self._question, last.granted)
        return await self.granted() if last.was_kept else None

    async def _prove(self, account: Account) -> str:
        """Kubernetes' token of an account, for the cloud."""
        audience = audience_of(self._question.cloud, account)
        if not audience:
            asked = Question(cloud=self._question.cloud, wanted="audience")
            audience = (await self._engine.fetchers.clouds.ask(asked)).granted.secret
        try:
            token = await self._engine.cluster.request_token(account.namespace, account.name, audience)
        except ClusterError as error:
            why = f"spec.serviceAccountName: the API server gives no token of it: {error}"
            raise FetchError("AuthenticationFailed", why) from None
        self._run.secrets.add([token.value])
        return token.value


async def retried(cloud: CloudLogin | None, work: Callable[[], Awaitable[T]], renew: Callable[[Granted], None]) -> T:
    """What comes of work. A token of a cloud's that was kept, and is refused, is asked for once more.

    Args:
        cloud: that gave it; None where a Secret gave what the work shows.
        work: that shows it.
        renew: has the work show another.

    Raises:
        FetchError: as the work does.
    """
    try:
        return await work()
    except FetchError as error:
        if cloud is None or error.reason != "AuthenticationFailed":
            raise
        renewed = await cloud.renewed()
        if renewed is None:
            raise
    renew(renewed)
    return await work()


class RegistryLogin:
    """Who a source is to a registry."""

    def __init__(self, credentials: RegistryCredentials = ANONYMOUS, cloud: CloudLogin | None = None) -> None:
        self._credentials = credentials
        self._cloud = cloud

    @classmethod
    async def of(cls, cloud: CloudLogin) -> "RegistryLogin":
        """Logs in at a cloud."""
        return cls(_of_registry(await cloud.granted()), cloud)

    async def at(self, work: Callable[[RegistryCredentials], Awaitable[T]]) -> T:
        """What comes of work with the credentials.

        Raises:
            FetchError: as the work does.
        """
        return await retried(self._cloud, lambda: work(self._credentials), self._renew)

    def _renew(self, granted: Granted) -> None:
        self._credentials = _of_registry(granted)


async def registry_login(
    engine: Engine,
    declared: DeclaredSource,
    run: Run,
    secrets: Secrets,
    *,
    cloud: Cloud,
    url: str,
    account: str = "",
    proxy: Proxy | None = None,
    insecure: bool,
    timeout_s: float,
) -> RegistryLogin:
    """Logs in at a cloud for a registry.

    Args:
        engine: the engine.
        declared: the source.
        run: its run.
        secrets: reads the account.
        cloud: `spec.provider`.
        url: of the repository.
        account: of the source's namespace, that is logged in as; the engine itself where nobody is named.
        proxy: through whom.
        insecure: whether the source asks for a registry without TLS.
        timeout_s: of the source.

    Raises:
        FetchError: when it cannot be logged in: `FeatureGateDisabled` where accounts may not be named.
        StageError: when the account cannot be read.
    """
    if insecure:
        raise FetchError(
            "AuthenticationFailed",
            "spec.insecure: what a cloud gives is shown to a registry over TLS only: leave it out, or give credentials "
            "in spec.secretRef",
            final=True,
        )
    question = registry_question(cloud, repository_of(url).host)
    question = await identified(engine, declared, secrets, question, account, proxy)
    return await RegistryLogin.of(CloudLogin(engine, declared, run, question, timeout_s))


async def identified(
    engine: Engine, declared: DeclaredSource, secrets: Secrets, question: Question, name: str, proxy: Proxy | None
) -> Question:
    """A question, with who asks it, and through whom (contract CM-089).

    Raises:
        FetchError: `FeatureGateDisabled`, where an account is named and may not be.
        StageError: when the account cannot be read.
    """
    question = msgspec.structs.replace(question, proxy=_proxy_of(proxy))
    if not name:
        return question
    require_gate(engine)
    found = await secrets.account(name)
    annotations = found["metadata"].get("annotations") or {}
    account = account_of(question.cloud, declared.key.namespace, name, annotations)
    return msgspec.structs.replace(question, account=account)


def require_gate(engine: Engine) -> None:
    """Refuses to be a ServiceAccount where that is not permitted.

    Raises:
        FetchError: `FeatureGateDisabled`.
    """
    if not engine.settings.object_level_workload_identity:
        raise FetchError(
            "FeatureGateDisabled",
            f"to use spec.serviceAccountName for provider authentication please enable the {GATE} feature gate in the "
            "controller",
            final=True,
        )


def account_name(engine: Engine, named: str) -> str:
    """The account that a source with a cloud's provider is, where it names none itself (contract FL-017)."""
    settings = engine.settings
    return named or (settings.default_service_account if settings.object_level_workload_identity else "")


def _of_registry(granted: Granted) -> RegistryCredentials:
    return RegistryCredentials(username=granted.username, password=granted.secret, is_of_cloud=True)


def _proxy_of(proxy: Proxy | None) -> str:
    if proxy is None:
        return ""
    if proxy.address.startswith("socks"):
        raise FetchError(
            "AuthenticationFailed",
            "spec.proxySecretRef: clouds are not asked through a SOCKS proxy: name one that begins with http://",
            final=True,
        )
    return proxy.url
