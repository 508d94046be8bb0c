"""Bucket, source.toolkit.fluxcd.io/v1 (contract 2.8)."""

from typing import Annotated, ClassVar, Literal

import msgspec

from tidelog.engine.kinds.durations import Interval, SourceTimeout
from tidelog.engine.kinds.meta import (
    DEFAULT_TIMEOUT,
    READY_MESSAGE,
    READY_STATUS,
    SOURCE_GROUP,
    Artifact,
    Column,
    Condition,
    KubeStruct,
    LocalReference,
    ObjectMeta,
    Resource,
    Rule,
)
from tidelog.engine.objects.kube import KubeObject


class SecurityTokenService(KubeStruct, frozen=True, kw_only=True):
    """Who gives credentials that last for a while."""

    provider: Literal["aws", "ldap"]
    """How it is asked: aws, or ldap."""
    endpoint: Annotated[str, msgspec.Meta(pattern="^(http|https)://.*$")]
    """Address of the service."""
    secret_ref: LocalReference | None = None
    """Secret with username and password; for ldap only."""
    cert_secret_ref: LocalReference | None = None
    """Secret with ca.crt, and with tls.crt and tls.key, for the connection to the service; for ldap only."""


def _provider(spec: KubeObject) -> object:
    return spec.get("provider", "generic")


def _sts(spec: KubeObject) -> KubeObject:
    found: KubeObject = spec.get("sts") or {}
    return found


class BucketSpec(KubeStruct, frozen=True, kw_only=True):
    """Where a bucket is, and what to fetch of it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.provider == 'aws' || self.provider == 'generic' || !has(self.sts)",
            "STS configuration is only supported for the 'aws' and 'generic' Bucket providers",
            lambda spec: _provider(spec) in ("aws", "generic") or "sts" not in spec,
        ),
        Rule(
            "self.provider != 'aws' || !has(self.sts) || self.sts.provider == 'aws'",
            "'aws' is the only supported STS provider for the 'aws' Bucket provider",
            lambda spec: _provider(spec) != "aws" or "sts" not in spec or _sts(spec).get("provider") == "aws",
        ),
        Rule(
            "self.provider != 'generic' || !has(self.sts) || self.sts.provider == 'ldap'",
            "'ldap' is the only supported STS provider for the 'generic' Bucket provider",
            lambda spec: _provider(spec) != "generic" or "sts" not in spec or _sts(spec).get("provider") == "ldap",
        ),
        Rule(
            "!has(self.sts) || self.sts.provider != 'aws' || !has(self.sts.secretRef)",
            "spec.sts.secretRef is not required for the 'aws' STS provider",
            lambda spec: _sts(spec).get("provider") != "aws" or "secretRef" not in _sts(spec),
        ),
        Rule(
            "!has(self.sts) || self.sts.provider != 'aws' || !has(self.sts.certSecretRef)",
            "spec.sts.certSecretRef is not required for the 'aws' STS provider",
            lambda spec: _sts(spec).get("provider") != "aws" or "certSecretRef" not in _sts(spec),
        ),
        Rule(
            "self.provider != 'generic' || !has(self.serviceAccountName)",
            "ServiceAccountName is not supported for the 'generic' Bucket provider",
            lambda spec: _provider(spec) != "generic" or "serviceAccountName" not in spec,
        ),
        Rule(
            "!has(self.secretRef) || !has(self.serviceAccountName)",
            "cannot set both .spec.secretRef and .spec.serviceAccountName",
            lambda spec: "secretRef" not in spec or "serviceAccountName" not in spec,
        ),
    )

    provider: Annotated[
        Literal["generic", "aws", "gcp", "azure"], msgspec.Meta(extra_json_schema={"default": "generic"})
    ] = "generic"
    """Whose the bucket is: generic (whatever has S3's API), aws, gcp or azure."""
    bucket_name: str
    """Name of the bucket."""
    endpoint: str
    """Host of the object store, with its port; for azure, the address of the blob service."""
    sts: SecurityTokenService | None = None
    """Who gives credentials that last for a while."""
    insecure: bool = False
    """Whether the object store is reached over HTTP."""
    region: str = ""
    """Region of the bucket."""
    prefix: str = ""
    """What the keys begin with that are fetched."""
    secret_ref: LocalReference | None = None
    """Secret with credentials: accesskey and secretkey (generic and aws), serviceaccount (gcp), or those of azure."""
    service_account_name: str = ""
    """ServiceAccount whose cloud identity is used; not for generic."""
    cert_secret_ref: LocalReference | None = None
    """Secret with ca.crt, and with tls.crt and tls.key, for the connection to the object store; for generic only."""
    proxy_secret_ref: LocalReference | None = None
    """Secret with the proxy to use: address, and username and password if it asks for them."""
    interval: Interval
    """How often the bucket is asked for something new."""
    timeout: Annotated[SourceTimeout, msgspec.Meta(extra_json_schema={"default": "60s"})] = DEFAULT_TIMEOUT
    """Limit of each fetch; 60s where it is not given."""
    ignore: str | None = None
    """Patterns, in the form of .gitignore, of files that are left out of the artifact."""
    suspend: bool = False
    """Whether the bucket is left alone for now."""


class BucketStatus(KubeStruct, frozen=True, kw_only=True):
    """What was fetched, and how it went (contract BU-016)."""

    observed_generation: int = 0
    """Last generation that was dealt with."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    url: str = ""
    """Address of the artifact that was last fetched, whichever that is."""
    artifact: Artifact | None = None
    """What was last fetched."""
    observed_ignore: str | None = None
    """The spec's ignore with which the artifact was made."""
    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""


class Bucket(KubeStruct, frozen=True, kw_only=True):
    """A bucket of an object store whose objects become an artifact."""

    resource: ClassVar[Resource] = Resource(
        group=SOURCE_GROUP,
        version="v1",
        kind="Bucket",
        plural="buckets",
        short_names=(),
        categories=("all", "fluxcd", "fluxcd-sources"),
        columns=(
            Column("Endpoint", ".spec.endpoint"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
        ),
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: BucketSpec
    status: BucketStatus = BucketStatus()
