"""How another cluster is reached that a Secret or a ConfigMap tells of; where that leads, e2e tests show."""

from typing import Any, cast

import pytest

from tests.servers.kubernetes_servers import Authority
from tidelog.engine.cluster.errors import ClusterError, KubeconfigError, NotFoundError, ServerError, UnreachableError
from tidelog.engine.cluster.port import Cluster, Token
from tidelog.engine.cluster.remote import (
    IdentityGateError,
    Kubeconfig,
    NoKubeconfigError,
    UnsupportedKubeconfigError,
)
from tidelog.engine.kinds.meta import LocalReference
from tidelog.engine.kinds.targets import KubeConfigReference
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.kubeconfigs import Kubeconfigs
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.names import ObjectKey

BY_CONFIG_MAP = KubeConfigReference(config_map_ref=LocalReference(name="there"))
WHOLE = {"provider": "generic", "address": "https://There.example/prefix/", "serviceAccountName": "goes"}


class Home:
    """A cluster that gives tokens, each another one, or says why not. A real one does so in the e2e tests."""

    def __init__(self, error: ClusterError | None = None) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.error = error

    async def request_token(self, *asked: str) -> Token:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error
        return Token(f"token-number-{len(self.asked)}", 3_600)


async def read(
    data: dict[str, Any] | None, home: Home | None = None, accounts: tuple[str, ...] = ("goes",), **settings: Any
) -> Kubeconfig:
    """What is read of a ConfigMap with such data in namespace `team`, which has some accounts."""

    async def get(key: ObjectKey) -> KubeObject | None:
        if key == ObjectKey("", "ConfigMap", "team", "there"):
            return None if data is None else {"data": data}
        assert (key.group, key.kind, key.namespace) == ("", "ServiceAccount", "team")
        return {} if key.name in accounts else None

    allowed = Settings(**{"object_level_workload_identity": True, **settings})
    return await Kubeconfigs(cast("Cluster", home or Home()), allowed).of("team", BY_CONFIG_MAP, get)


async def token_of(kubeconfig: Kubeconfig) -> str:
    assert kubeconfig.tokens is not None
    return (await kubeconfig.tokens.next()).value


async def test_a_token_of_the_account_is_for_the_address_or_for_who_is_named() -> None:
    home = Home()
    found = await read(WHOLE | {"ca.crt": "PEM"}, home)
    assert (found.access.server, found.access.ca) == ("https://there.example:443", b"PEM")
    assert found.origin == "ConfigMap team/there (without the path of address, which is not used)"
    await token_of(found)
    assert home.asked == [("team", "goes", "https://There.example/prefix/")]
    other = await read(WHOLE | {"audiences": "one\n\n two \n"}, home)
    await token_of(other)
    assert home.asked[-1] == ("team", "goes", "one", "two")


async def test_what_another_is_makes_another_connection_and_nothing_else_does() -> None:
    digests = [
        (await read(WHOLE | changed, accounts=("goes", "other"))).digest
        for changed in (
            {},
            {"ca.crt": "PEM"},
            {"audiences": "one"},
            {"address": "https://here.example"},
            {"serviceAccountName": "other"},
        )
    ]
    assert len(set(digests)) == len(digests)
    assert (await read(WHOLE | {"cluster": "of clouds", "comment": "x"})).digest == digests[0]


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("https://there.example:6443", "https://there.example:6443"),
        ("there.example", "https://there.example:443"),
        ("10.0.0.1:6443\n", "https://10.0.0.1:6443"),
        ("https://[fd00::1]:6443/", "https://[fd00::1]:6443"),
    ],
)
async def test_addresses_are_read_as_flux_reads_them(address: str, server: str) -> None:
    found = await read(WHOLE | {"address": address})
    assert (found.access.server, found.origin) == (server, "ConfigMap team/there")


async def test_an_account_that_is_not_named_is_the_default_one_and_never_the_engines_own() -> None:
    home, unnamed = Home(), {key: value for key, value in WHOLE.items() if key != "serviceAccountName"}
    with pytest.raises(KubeconfigError, match="serviceAccountName: it names none; name a ServiceAccount of team"):
        await read(unnamed, home)
    await token_of(await read(unnamed, home, accounts=("usual",), default_kubeconfig_service_account="usual"))
    assert [asked[1] for asked in home.asked] == ["usual"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"provider": ""}, "provider: '' is none of aws, azure, gcp, generic"),
        ({"provider": "Generic"}, "none of aws, azure, gcp, generic"),
        ({"address": ""}, "address: '' is none of an API server"),
        ({"address": "http://there.example"}, "none of an API server"),
        ({"address": "https://there.example:port"}, "none of an API server"),
        ({"address": "https://there.example?a=b"}, "none of an API server"),
        ({"audiences": "a\n" * 17}, "16 of 1024 characters are the most"),
        ({"audiences": "a" * 1_025}, "16 of 1024 characters are the most"),
        ({"ca.crt": "x" * 300_000}, "256 KiB"),
    ],
)
async def test_what_cannot_be_used_is_said(changed: dict[str, str], words: str) -> None:
    with pytest.raises(KubeconfigError, match=words) as caught:
        await read(WHOLE | changed)
    assert str(caught.value).startswith("ConfigMap team/there: ")
    assert not isinstance(caught.value, NoKubeconfigError | UnsupportedKubeconfigError)


async def test_a_password_in_an_address_is_not_quoted() -> None:
    with pytest.raises(KubeconfigError, match="address: it has credentials") as caught:
        await read(WHOLE | {"address": "https://who:hunter22@there.example"})
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
async def test_clouds_cannot_be_asked_yet(provider: str) -> None:
    with pytest.raises(UnsupportedKubeconfigError, match=f"provider: {provider} cannot be used yet; use generic"):
        await read({"provider": provider, "cluster": "it"})


async def test_without_the_gate_it_is_not_even_looked_at() -> None:
    with pytest.raises(IdentityGateError, match="ObjectLevelWorkloadIdentity feature gate"):
        await read(None, object_level_workload_identity=False)


async def test_what_is_not_there_is_told_from_what_is_wrong() -> None:
    with pytest.raises(NoKubeconfigError, match="ConfigMap team/there is not there; make it"):
        await read(None)
    with pytest.raises(NoKubeconfigError, match="there is no ServiceAccount team/goes"):
        await read(WHOLE, accounts=())


async def test_that_there_is_no_token_says_nothing_of_objects_of_the_other_cluster() -> None:
    """Whoever is asked for an object there, and cannot log in, may not find that it is gone."""
    found = await read(WHOLE, Home(NotFoundError("no such account")))
    with pytest.raises(KubeconfigError, match="no token of ServiceAccount team/goes: no such account"):
        await token_of(found)
    for passing in (ServerError("oh"), UnreachableError("oh")):
        with pytest.raises(UnreachableError, match="no token of ServiceAccount team/goes: oh"):
            await token_of(await read(WHOLE, Home(passing)))


async def test_tokens_are_known_as_secret_before_they_are_shown_and_not_for_ever() -> None:
    found = await read(WHOLE)
    early, late = SecretValues(), SecretValues()
    found.tell(early)
    first = await token_of(found)
    found.tell(late)
    second = await token_of(found)
    for values in (early, late):
        assert values.filter(f"{first} and {second}") == "*** and ***"
    assert first not in repr(found) + repr(Token(first, 1))
    later = [await token_of(found) for _ in range(4)]
    assert early.filter(f"{first} {later[0]} {later[-1]}") == f"{first} *** ***"


async def test_an_authority_that_is_none_is_said_by_its_key(tmp_path: Any) -> None:
    authority = Authority.make(tmp_path)
    found = await read(WHOLE | {"ca.crt": authority.certificate_file.read_text()})
    assert (found.access.called.authority, found.access.called.server) == ("ca.crt", "address")
