"""Certificates and proxies, as Secrets give them."""

import ssl

import pytest
import trustme

from tidelog.engine.sources.access import Proxy, Tls, proxy_of, tls_of
from tidelog.engine.sources.errors import FetchError

AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes()
OURS = AUTHORITY.issue_cert("client.example.org")
CERTIFICATE = b"".join(blob.bytes() for blob in OURS.cert_chain_pems)
KEY = OURS.private_key_pem.bytes()


@pytest.mark.parametrize("names", [("ca.crt", "tls.crt", "tls.key"), ("caFile", "certFile", "keyFile")])
def test_certificates_under_either_name(names: tuple[str, str, str]) -> None:
    tls = tls_of(dict(zip(names, (CA, CERTIFICATE, KEY), strict=True)), "certs")
    assert tls == Tls(ca=CA.decode(), certificate=CERTIFICATE.decode(), key=KEY.decode())
    subjects = [found["subject"] for found in tls.context().get_ca_certs()]
    assert any("trustme" in str(subject) for subject in subjects)


def test_the_newer_name_goes_before_the_older_one() -> None:
    other = trustme.CA().cert_pem.bytes()
    assert tls_of({"ca.crt": CA, "caFile": other}, "certs").ca == CA.decode()


def test_a_given_authority_extends_the_systems() -> None:
    before = len(ssl.create_default_context().get_ca_certs())
    assert len(Tls(ca=CA.decode()).context().get_ca_certs()) == before + 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "neither ca.crt nor tls.crt"),
        ({"tls.crt": CERTIFICATE}, "no tls.key"),
        ({"tls.key": KEY}, "no tls.crt"),
        ({"ca.crt": b"hello"}, "ca.crt that is no PEM"),
        ({"ca.crt": b"\xff"}, "no text"),
    ],
)
def test_certificates_that_are_none(data: dict[str, bytes], message: str) -> None:
    with pytest.raises(FetchError, match=message) as caught:
        tls_of(data, "certs")
    assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", True)


def test_a_key_that_cannot_be_read() -> None:
    broken = Tls(certificate=CERTIFICATE.decode(), key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(FetchError, match="cannot be used"):
        broken.context()


def test_a_proxy() -> None:
    proxy = proxy_of({"address": b"http://p:3128\n", "username": b"me", "password": b"a/b@c"}, "proxy")
    assert proxy == Proxy(address="http://p:3128", username="me", password="a/b@c")
    assert proxy.url == "http://me:a%2Fb%40c@p:3128"
    assert "a/b@c" not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "no address"),
        ({"address": b"ftp://p"}, "is none"),
        ({"address": b"p:3128"}, "is none"),
        ({"address": b"http://" + b"p" * 2048}, "is none"),
        ({"address": b"http://me:x@p"}, "credentials in its address"),
        ({"address": b"http://p", "username": b"me"}, "no password"),
    ],
)
def test_proxies_that_are_none(data: dict[str, bytes], message: str) -> None:
    with pytest.raises(FetchError, match=message) as caught:
        proxy_of(data, "proxy")
    assert "me:x" not in caught.value.message
