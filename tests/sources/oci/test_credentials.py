"""Credentials for registries in Secrets, and the addresses that they are for."""

import base64
import json

import pytest

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import ANONYMOUS, RegistryCredentials, registry_credentials
from tidelog.engine.sources.oci.address import Repository, repository_of

ADA = RegistryCredentials(username="ada", password="open:sesame")
AUTH = base64.b64encode(b"ada:open:sesame").decode()


def of(auths: dict[str, dict[str, str]], address: str = "oci://ghcr.io/org/app") -> RegistryCredentials:
    return registry_credentials({".dockerconfigjson": json.dumps({"auths": auths}).encode()}, "pull", address)


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("ghcr.io", "oci://ghcr.io/org/app"),
        ("https://ghcr.io", "oci://ghcr.io/org/app"),
        ("https://ghcr.io/v2/", "oci://ghcr.io/org/app"),
        ("http://ghcr.io/v1/", "oci://ghcr.io/org/app"),
        ("ghcr.io/org", "oci://ghcr.io/org/app"),
        ("*.example.org", "oci://eu.example.org/app"),
        ("registry.example.org:5000", "oci://registry.example.org:5000/app"),
        ("https://index.docker.io/v1/", "oci://docker.io/org/app"),
        ("https://index.docker.io/v1/", "oci://org/app"),
        ("docker.io", "oci://docker.io/app"),
        ("index.docker.io", "oci://index.docker.io/org/app"),
        ("[::1]:5000", "oci://[::1]:5000/app"),
    ],
)
def test_a_key_fits_the_registry(key: str, url: str) -> None:
    assert of({key: {"auth": AUTH}, "other.example.org": {"auth": "x"}}, url) == ADA


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("ghcr.io", "oci://evil-ghcr.io/org/app"),
        ("ghcr.io", "oci://ghcr.io.example.org/org/app"),
        ("ghcr.io", "oci://ghcr.io:5000/org/app"),
        ("ghcr.io:5000", "oci://ghcr.io/org/app"),
        ("ghcr.io/other", "oci://ghcr.io/org/app"),
        ("*.example.org", "oci://a.b.example.org/app"),
        ("*", "oci://ghcr.io/org/app"),
        ("*.io", "oci://ghcr.io.example/app"),
    ],
)
def test_a_key_for_another_registry_gives_nothing(key: str, url: str) -> None:
    assert of({key: {"auth": AUTH}}, url) == ANONYMOUS


def test_the_longest_key_goes_first() -> None:
    auths = {"ghcr.io": {"auth": AUTH}, "ghcr.io/org": {"username": "bob", "password": "of-the-org"}}
    assert of(auths).username == "bob"
    assert of(auths, "oci://ghcr.io/another/app") == ADA


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": AUTH}, ADA),
        ({"auth": AUTH.rstrip("=") + "\n"}, ADA),
        ({"username": "ada", "password": "open:sesame"}, ADA),
        ({"auth": AUTH, "username": "bob", "password": "x"}, ADA),
        ({"identitytoken": "t1"}, RegistryCredentials(identity_token="t1")),
        ({"username": "<token>", "password": "t1"}, RegistryCredentials(identity_token="t1")),
        ({"registrytoken": "t2"}, RegistryCredentials(token="t2")),
        ({}, ANONYMOUS),
    ],
)
def test_an_entry_is_read_as_docker_does(entry: dict[str, str], expected: RegistryCredentials) -> None:
    assert of({"ghcr.io": entry}) == expected


def test_a_secret_with_a_user_is_for_every_registry() -> None:
    assert registry_credentials({"username": b"ada\n", "password": b"open:sesame"}, "user", "ghcr.io") == ADA


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "has neither a .dockerconfigjson nor username and password"),
        ({"username": b"ada"}, "has no password"),
        ({"username": b"a\nb", "password": b"hidden-one"}, "has a username of more than one line"),
        ({"username": b"\xff", "password": b"hidden-one"}, "has a username that is no text"),
        ({".dockerconfigjson": b'{"auths": {"ghcr.io": "hidden-one"}}'}, "has a .dockerconfigjson that is none"),
        ({".dockerconfigjson": b"\xff"}, "has a .dockerconfigjson that is none"),
        ({".dockerconfigjson": b'{"auths":{"ghcr.io":{"auth":"!hidden-one"}}}'}, "that is no base64 of user:password"),
        ({".dockerconfigjson": b'{"auths":{"ghcr.io":{"auth":"aGlkZGVuLW9uZQ=="}}}'}, "without a colon"),
        ({".dockerconfigjson": b'{"auths":{"ghcr.io":{"registrytoken":"hidden-one\\n"}}}'}, "more than one line"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_without_its_values(data: dict[str, bytes], why: str) -> None:
    with pytest.raises(FetchError) as caught:
        registry_credentials(data, "pull", "oci://ghcr.io/org/app")
    assert f"the Secret pull {why}" in str(caught.value) or why in str(caught.value)
    assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", True)
    assert "hidden-one" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_credentials_are_not_printed() -> None:
    credentials = RegistryCredentials(username="ada", password="hidden", token="hidden", identity_token="hidden")
    assert "hidden" not in f"{credentials} {credentials!r}"
    assert ADA.basic is not None
    assert ADA.hide(f"open:sesame and {ADA.basic.split()[1]}") == "*** and ***"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oci://ghcr.io/org/app", Repository("ghcr.io", "org/app")),
        ("oci://localhost/app", Repository("localhost", "app")),
        ("oci://registry:5000/app", Repository("registry:5000", "app")),
        ("oci://docker.io/nginx", Repository("index.docker.io", "library/nginx")),
        ("oci://nginx", Repository("index.docker.io", "library/nginx")),
        ("oci://org/app", Repository("index.docker.io", "org/app")),
        ("oci://[::1]:5000/app", Repository("[::1]:5000", "app")),
    ],
)
def test_an_address_is_read_as_flux_reads_it(url: str, expected: Repository) -> None:
    assert repository_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://ghcr.io/org/app",
        "oci://ghcr.io/org/app:v1",
        "oci://ghcr.io/org/app@sha256:" + "0" * 64,
        "oci://ada:hidden-one@ghcr.io/org/app",
        "oci://ghcr.io/",
        "oci://ghcr.io",
        "oci://",
        "oci://ghcr.io/Org/app",
        "oci://ghcr.io/org//app",
        "oci://ghcr.io/../app",
        "oci://ghcr.io/org/app?x=hidden-one",
        "oci://gh cr.io/org/app",
        "oci://ghcr.io/" + "a" * 300,
    ],
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        repository_of(url)
    assert (caught.value.reason, caught.value.final) == ("URLInvalid", True)
    assert "hidden-one" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("[::1]:5000", True),
        ("10.1.2.3:5000", True),
        ("registry.flux-system.svc.cluster.local:5000", True),
        ("ghcr.io", False),
        ("8.8.8.8", False),
        ("10.example.org", False),
    ],
)
def test_what_is_local_may_speak_plain_http(host: str, is_local: bool) -> None:
    assert Repository(host, "app").is_local == is_local
