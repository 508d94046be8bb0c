"""What is asked of a bucket, and what it has."""

import hashlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from tidelog.events.names import Revision

Provider: TypeAlias = Literal["generic", "aws", "gcp", "azure"]
StsProvider: TypeAlias = Literal["aws", "ldap"]


class StsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives temporary credentials (contract BU-009)."""

    provider: StsProvider
    endpoint: str
    secret: bool = False
    """Whether `spec.sts.secretRef` names a Secret."""
    certificates: bool = False
    """Whether `spec.sts.certSecretRef` names one."""


class BucketSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A Bucket's spec, as far as object stores are concerned (contract BU-001 to BU-010)."""

    provider: Provider = "generic"
    bucket_name: str
    endpoint: str
    region: str = ""
    prefix: str = ""
    insecure: bool = False
    ignore: str | None = None
    timeout_s: float = 60.0
    sts: StsSpec | None = None


class BucketIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The objects of a bucket that are part of the artifact, by key, and the revision that they make."""

    revision: Revision
    etags: Mapping[str, str]


def index_of(etags: Mapping[str, str]) -> BucketIndex:
    """The index with its revision: SHA-256 over `<key> <etag>` lines, sorted by key (contract BU-012). Blocks."""
    digest = hashlib.sha256()
    for key in sorted(etags):
        digest.update(f"{key} {etags[key]}\n".encode())
    return BucketIndex(revision=Revision(f"sha256:{digest.hexdigest()}"), etags=etags)
