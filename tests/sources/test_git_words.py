"""Credentials from Secrets, what a server advertises, and references: the parts that need no server."""

import pytest

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git import Credentials, GitRef, credentials_of
from tidelog.engine.sources.git.choose import check_ref
from tidelog.engine.sources.git.pktline import ProtocolError, packet, packets, read_advertisement, read_refs

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
ONE, TWO = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("secret", "credentials"),
    [
        ({"username": b"ada", "password": b"p\n"}, Credentials(username="ada", password="p")),
        ({"bearerToken": b"t0ken"}, Credentials(token="t0ken")),
        ({"ca.crt": CERTIFICATE}, Credentials(ca=CERTIFICATE.decode())),
        ({"caFile": CERTIFICATE}, Credentials(ca=CERTIFICATE.decode())),
        ({"ca.crt": CERTIFICATE, "caFile": b"other"}, Credentials(ca=CERTIFICATE.decode())),
        ({}, Credentials()),
        ({"identity": b"of ssh"}, Credentials()),
    ],
)
def test_secret_is_read(secret: dict[str, bytes], credentials: Credentials) -> None:
    assert credentials_of(secret, "git") == credentials


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ({"username": b"ada"}, "has no password"),
        ({"password": b"p4ss"}, "has no username"),
        ({"username": b"a", "password": b"p4ss", "bearerToken": b"t0ken"}, "both a bearerToken and a username"),
        ({"tls.crt": b"x", "tls.key": b"y"}, "client certificate, which is not supported yet"),
        ({"githubAppID": b"1"}, "GitHub App, which are not supported yet"),
        ({"ca.crt": b"nonsense"}, "no PEM certificate"),
        ({"bearerToken": b"\xff"}, "is no text"),
        ({"bearerToken": b"t0ken\r\nX-Other: 1"}, "more than one line"),
    ],
)
def test_secret_that_is_wrong_is_refused_by_its_name(secret: dict[str, bytes], said: str) -> None:
    with pytest.raises(FetchError, match=f"the Secret git .*{said}") as raised:
        credentials_of(secret, "git")
    assert raised.value.final
    assert not any(value.decode("utf-8", "ignore") in str(raised.value) for value in secret.values() if len(value) > 3)


def test_credentials_are_not_printed() -> None:
    credentials = Credentials(username="ada", password="p4ssw0rd", ca="x")
    assert "p4ss" not in f"{credentials!r} {credentials} {[credentials]}"
    text = f"refused: {credentials.authorization} and p4ssw0rd"
    assert credentials.hide(text) == "refused: Basic *** and ***"


def advertised(*lines: str) -> bytes:
    return packet("# service=git-upload-pack\n") + b"0000" + b"".join(map(packet, lines)) + b"0000"


def test_advertisement_of_protocol_0_is_read() -> None:
    found = read_advertisement(
        advertised(
            f"{ONE} HEAD\0side-band-64k ofs-delta\n",
            f"{ONE} refs/heads/main\n",
            f"{TWO} refs/tags/v1\n",
            f"{ONE} refs/tags/v1^{{}}\n",
        )
    )
    assert found is not None
    assert found.by_name == {"HEAD": ONE, "refs/heads/main": ONE, "refs/tags/v1": ONE}
    assert found.capabilities == {"side-band-64k", "ofs-delta"}


def test_empty_repository_advertises_nothing() -> None:
    found = read_advertisement(advertised(f"{'0' * 40} capabilities^{{}}\0side-band-64k\n"))
    assert found is not None
    assert found.by_name == {}


def test_protocol_2_is_recognised_and_read() -> None:
    assert read_advertisement(packet("version 2\n") + packet("ls-refs=unborn\n") + b"0000") is None
    found = read_refs(packet(f"{ONE} refs/heads/main\n") + packet(f"{TWO} refs/tags/v1 peeled:{ONE}\n") + b"0000")
    assert found.by_name == {"refs/heads/main": ONE, "refs/tags/v1": ONE}


def test_sha256_repository_is_refused_by_name() -> None:
    with pytest.raises(ProtocolError, match="SHA-256, which is not supported yet"):
        read_advertisement(packet("version 2\n") + packet("object-format=sha256\n") + b"0000")


@pytest.mark.parametrize("data", [b"zzzz", b"00", b"0010short", b"<html>"])
def test_bytes_that_are_no_packets_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(packets(data))
    with pytest.raises(ProtocolError):
        read_advertisement(data)


@pytest.mark.parametrize("line", ["short refs/heads/main", f"{'g' * 40} refs/heads/main", f"{ONE[:-1]}X a"])
def test_reference_without_an_id_is_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        read_refs(packet(line))


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (GitRef(commit="abc"), "write all 40 hexadecimal digits"),
        (GitRef(commit="0" * 64), "SHA-256"),
        (GitRef(name="/refs/heads/main"), "no name of a reference"),
        (GitRef(name="refs/heads/main/"), "no name of a reference"),
        (GitRef(branch="a b"), "no name of a reference"),
        (GitRef(tag="a:b"), "no name of a reference"),
        (GitRef(branch="*"), "no name of a reference"),
    ],
)
def test_reference_that_cannot_be_is_refused(ref: GitRef, said: str) -> None:
    with pytest.raises(FetchError, match=said) as raised:
        check_ref(ref)
    assert raised.value.final
