"""Signatures without a key: certificates of somebody's identity, held to given roots of trust in a process of its own.

What is loaded for it (`keyless_check.py`) takes half a second and 50 MB, and reads what strangers wrote.
"""

import importlib.util
from collections.abc import Mapping
from typing import Final

import msgspec

from tidelog.engine.framed import FramedProcess, FramedWorkers, WorkerDiedError
from tidelog.engine.sources.errors import FetchError

ROOT_FILE: Final = "trusted_root.json"
LIBRARY: Final = "sigstore"
WORKER: Final = "tidelog.engine.sources.oci.keyless_worker"
WORKERS: Final = 1
CHECK_TIMEOUT_S: Final = 30.0
"""For one bundle; it takes some hundredths of a second, and a second where the process begins."""
ANSWER_BYTES_MAX: Final = 2**16


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who may have signed without a key, as Go's patterns (contract OC-018)."""

    issuer: str
    subject: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a bundle is a signature of a digest by one of the identities; with no bundle, whether these can be used.

    Where no identities are given, anybody's counts whom the roots of trust know (contract OC-018).
    """

    root: bytes
    identities: tuple[Identity, ...] = ()
    bundle: bytes = b""
    digest: str = ""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a check."""

    signer: str = ""
    """The subject and the issuer of the certificate; empty where the signature does not count."""
    why: str = ""
    """That it does not."""
    is_unusable: bool = False
    """Whether it is the roots of trust, or a pattern, that cannot be used."""


_is_installed = importlib.util.find_spec(LIBRARY) is not None
_decoder: Final = msgspec.msgpack.Decoder(Checked)


def root_of(secret: Mapping[str, bytes]) -> bytes:
    """The roots of trust in a Secret's data (contract OC-019).

    Raises:
        FetchError: `VerificationError`, when there are none, or what reads them is not installed.
    """
    if not _is_installed:
        raise _never(
            "spec.verify.trustedRootSecretRef: signatures without a key are verified with the package sigstore, which "
            "is not installed here: install tidelog[sigstore]"
        )
    if not secret.get(ROOT_FILE):
        raise _never(f"the Secret in spec.verify.trustedRootSecretRef has no {ROOT_FILE}: put the roots of trust there")
    return secret[ROOT_FILE]


class Keyless:
    """Checks bundles, a bounded number at a time. To be closed."""

    def __init__(self, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._workers = FramedWorkers(WORKERS, _started)

    async def aclose(self) -> None:
        """Ends the process."""
        await self._workers.close()

    async def check(self, job: Check) -> Checked:
        """Checks a bundle.

        Raises:
            FetchError: `VerificationError`, when it cannot be checked; final, where what it is held to cannot be used.
        """
        try:
            answer = await self._workers.ask(msgspec.msgpack.encode(job), self._timeout_s)
        except TimeoutError:
            why = f"a signature takes longer than {self._timeout_s:g} s to verify"
            raise FetchError("VerificationError", why) from None
        except WorkerDiedError as error:
            why = f"the process that verifies signatures died (it ended with {error.code}): it is tried again"
            raise FetchError("VerificationError", why) from None
        found = _decoder.decode(answer)
        if found.is_unusable:
            raise _never(found.why)
        return found


async def _started() -> FramedProcess:
    return await FramedProcess.start(WORKER, answer_bytes_max=ANSWER_BYTES_MAX)


def _never(message: str) -> FetchError:
    return FetchError("VerificationError", message, final=True)
