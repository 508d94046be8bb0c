"""How another cluster is reached: by the kubeconfig of a Secret, or as a ServiceAccount of this one, by a ConfigMap.

In both cases somebody else wrote what stands there. Of ConfigMaps the provider `generic` is known: the other cluster
trusts the issuer of this one, and takes a token that was made for it (Flux contract CM-086 to CM-089).
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from tidelog.engine.cluster.credentials import MakeToken, Tokens
from tidelog.engine.cluster.errors import PASSING, ClusterError, KubeconfigError, NotFoundError, UnreachableError
from tidelog.engine.cluster.kubeconfig import access_to
from tidelog.engine.cluster.port import Cluster, Token
from tidelog.engine.cluster.remote import (
    IdentityGateError,
    Kubeconfig,
    NoKubeconfigError,
    UnsupportedKubeconfigError,
    data_of,
    kubeconfig_in,
    read_kubeconfig,
)
from tidelog.engine.kinds.meta import SecretKeyReference
from tidelog.engine.kinds.targets import KubeConfigReference
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.settings import Settings
from tidelog.events.canonical import encode
from tidelog.events.names import ObjectKey

GATE: Final = "ObjectLevelWorkloadIdentity"
GENERIC: Final = "generic"
PROVIDERS: Final = ("aws", "azure", "gcp", GENERIC)
AUDIENCES_MAX: Final = 16
AUDIENCE_CHARACTERS_MAX: Final = 1_024
"""Of one audience; all of them are in the token, and that in each request."""

Get: TypeAlias = Callable[[ObjectKey], Awaitable[KubeObject | None]]
"""An object of the engine's own cluster; None where it is not there."""


class Kubeconfigs:
    """Reads how the clusters are reached that targets name.

    Args:
        home: the engine's own cluster, which gives tokens of its ServiceAccounts.
        settings: what of a kubeconfig is used, whether a ServiceAccount's identity is, and whose where none is named.
    """

    def __init__(self, home: Cluster, settings: Settings) -> None:
        self._home = home
        self._settings = settings

    async def of(self, namespace: str, reference: KubeConfigReference, get: Get) -> Kubeconfig:
        """How the cluster is reached that a target of a namespace names.

        Args:
            namespace: of the target.
            reference: its `spec.kubeConfig`.
            get: reads what is named.

        Raises:
            NoKubeconfigError: when what it names is not there.
            UnsupportedKubeconfigError: when it asks for a cloud's identity.
            IdentityGateError: when it asks for a ServiceAccount's identity, and that is not permitted.
            KubeconfigError: when it cannot be used.
            ClusterError: when what it names cannot be read.
        """
        if reference.secret_ref is not None:
            return await self._of_secret(namespace, reference.secret_ref, get)
        if reference.config_map_ref is None:
            raise KubeconfigError("spec.kubeConfig: it names neither a Secret nor a ConfigMap")
        if not self._settings.object_level_workload_identity:
            raise IdentityGateError(
                "to use spec.kubeConfig.configMapRef, which reaches the cluster as a ServiceAccount, please enable the "
                f"{GATE} feature gate in the controller"
            )
        return await self._of_config_map(namespace, reference.config_map_ref.name, get)

    async def here(self, namespace: str, reference: KubeConfigReference) -> Kubeconfig:
        """The same, of what is asked for now, by whoever is told of no change.

        Raises:
            KubeconfigError, ClusterError: as `of` does.
        """
        return await self.of(namespace, reference, self._read)

    async def _read(self, key: ObjectKey) -> KubeObject | None:
        kind = await self._home.kind("v1", key.kind)
        try:
            return await self._home.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None

    async def _of_secret(self, namespace: str, reference: SecretKeyReference, get: Get) -> Kubeconfig:
        shown = f"{namespace}/{reference.name}"
        live = await get(ObjectKey("", "Secret", namespace, reference.name))
        if live is None:
            raise NoKubeconfigError(
                f"spec.kubeConfig.secretRef: Secret {shown} is not there; make it, with a kubeconfig"
            )
        return await read_kubeconfig(
            kubeconfig_in(data_of(live, shown), reference.key, shown),
            f"the kubeconfig of Secret {shown}",
            execs=self._settings.insecure_kubeconfig_exec,
            insecure_tls=self._settings.insecure_kubeconfig_tls,
        )

    async def _of_config_map(self, namespace: str, name: str, get: Get) -> Kubeconfig:
        where = f"ConfigMap {namespace}/{name}"
        live = await get(ObjectKey("", "ConfigMap", namespace, name))
        if live is None:
            raise NoKubeconfigError(
                f"spec.kubeConfig.configMapRef: {where} is not there; make it, with provider, address and "
                "serviceAccountName"
            )
        data: Mapping[str, str] = live.get("data") or {}
        _check_provider(data.get("provider", ""), where)
        access = access_to(data.get("address", ""), data.get("ca.crt", ""), where)
        account = self._account(namespace, data, where)
        if await get(ObjectKey("", "ServiceAccount", namespace, account)) is None:
            raise NoKubeconfigError(f"{where}: serviceAccountName: there is no ServiceAccount {namespace}/{account}")
        audiences = _audiences(data, where)
        said = {"account": account, "address": access.server, "ca": data.get("ca.crt", ""), "audiences": [*audiences]}
        make = self._token_of(namespace, account, audiences, where)
        return Kubeconfig(access, hashlib.sha256(encode(said)).digest(), Tokens(make))

    def _account(self, namespace: str, data: Mapping[str, str], where: str) -> str:
        """Whose token is shown. Never the engine's own: who wrote the ConfigMap chose the server that it goes to."""
        account = data.get("serviceAccountName") or self._settings.default_kubeconfig_service_account
        if not account:
            raise KubeconfigError(
                f"{where}: serviceAccountName: it names none; name a ServiceAccount of {namespace}, in this cluster"
            )
        return account

    def _token_of(self, namespace: str, account: str, audiences: tuple[str, ...], where: str) -> MakeToken:
        async def make() -> Token:
            try:
                return await self._home.request_token(namespace, account, *audiences)
            except ClusterError as error:  # is about this cluster, and says nothing of objects in the other one
                told = f"{where}: no token of ServiceAccount {namespace}/{account}: {error}"
                raise (UnreachableError if isinstance(error, PASSING) else KubeconfigError)(told) from error

        return make


def _check_provider(provider: str, where: str) -> None:
    if provider not in PROVIDERS:
        raise KubeconfigError(f"{where}: provider: {provider[:80]!r} is none of {', '.join(PROVIDERS)}")
    if provider != GENERIC:
        raise UnsupportedKubeconfigError(
            f"{where}: provider: {provider} cannot be used yet; use generic, where that cluster can trust the issuer "
            "of this one's tokens, or give a kubeconfig in secretRef"
        )


def _audiences(data: Mapping[str, str], where: str) -> tuple[str, ...]:
    """For whom the token is: as in Flux, for the address as it is written, where nobody is named."""
    named = tuple(filter(None, map(str.strip, data.get("audiences", "").splitlines())))
    if len(named) > AUDIENCES_MAX or any(len(one) > AUDIENCE_CHARACTERS_MAX for one in named):
        raise KubeconfigError(
            f"{where}: audiences: {AUDIENCES_MAX} of {AUDIENCE_CHARACTERS_MAX} characters are the most, a line each"
        )
    return named or (data.get("address", "").strip(),)
