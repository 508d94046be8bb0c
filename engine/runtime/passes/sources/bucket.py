"""Bucket (contract 2.8)."""

import msgspec

from tidelog.engine.kinds import bucket as kinds
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Driver, News, Secrets, of_kind
from tidelog.engine.runtime.passes.sources.logins import CloudLogin, account_name, identified, require_gate, retried
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.bucket.credentials import (
    NO_CREDENTIALS,
    BucketCredentials,
    check_sts,
    credentials_of,
    sts_credentials_of,
)
from tidelog.engine.sources.bucket.endpoint import endpoint_of
from tidelog.engine.sources.bucket.spec import BucketIndex, BucketSpec, Provider, StsSpec
from tidelog.engine.sources.clouds.hosts import (
    check_own,
    check_region,
    check_store,
    check_sts_endpoint,
    store_question,
)
from tidelog.engine.sources.clouds.questions import Cloud, Granted
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.intake.jobs import Unpack


class BucketHead(Head, frozen=True, kw_only=True):
    """What a bucket has now."""

    index: BucketIndex


class BucketDriver(Driver):
    """Asks and fetches one Bucket."""

    def __init__(self, engine: Engine, declared: DeclaredSource, run: Run) -> None:
        self._engine = engine
        self._declared = declared
        self._spec = of_kind(declared.spec, kinds.BucketSpec)
        self._run = run
        self._credentials: BucketCredentials = NO_CREDENTIALS
        self._cloud: CloudLogin | None = None
        self._tls: Tls = PLAIN_TLS
        self._proxy: Proxy | None = None
        self._count = 0

    async def ask(self) -> Head | None:
        """See `Driver`."""
        if self._spec.service_account_name and self._spec.provider != "generic":
            require_gate(self._engine)
        await self._read(Secrets(self._engine, self._declared, self._run, "BucketOperationFailed"))
        index = await retried(self._cloud, self._ask, self._renew)
        return BucketHead(revision=index.revision, index=index)

    async def fetch(self, head: Head) -> Fetched:
        """See `Driver`: what vanished since the bucket was asked is no part of the revision (BU-013)."""
        return await retried(self._cloud, lambda: self._fetch(head), self._renew)

    async def _ask(self) -> BucketIndex:
        bucket = self._engine.fetchers.bucket
        return await bucket.ask(self._bucket_spec(), self._credentials, self._tls, self._proxy)

    def _renew(self, granted: Granted) -> None:
        self._credentials = _of_store(self._spec.provider, granted)

    async def _fetch(self, head: Head) -> Fetched:
        fetchers = self._engine.fetchers
        async with fetchers.intake.downloading() as download:
            index = await fetchers.bucket.download(
                self._bucket_spec(),
                self._credentials,
                self._tls,
                self._proxy,
                index=of_kind(head, BucketHead).index,
                into=download.path,
            )
            self._count = len(index.etags)
            job = Unpack(
                path=str(download.path),
                form="directory",
                what=f"the bucket {self._spec.bucket_name}",
                is_filtered=False,
                reason="ArchiveOperationFailed",
            )
            return await download.take(index.revision, job)

    def is_outdated(self) -> bool:
        """See `Driver`."""
        return of_kind(self._declared.status, kinds.BucketStatus).observed_ignore != self._spec.ignore

    def news(self, fetched: Fetched) -> News:  # noqa: ARG002 - the port's
        """See `Driver` (contract BU-014)."""
        return News(message=f"stored artifact with {self._count} fetched files from '{self._spec.bucket_name}' bucket")

    async def _read(self, secrets: Secrets) -> None:
        """The Secrets that the spec names."""
        spec = self._spec
        if spec.secret_ref is not None:
            data = await secrets.get(spec.secret_ref.name, "secretRef")
            self._credentials = credentials_of(spec.provider, data, spec.secret_ref.name)
        account = account_name(self._engine, spec.service_account_name)
        self._tls = await secrets.tls(spec.cert_secret_ref)
        self._proxy = await secrets.proxy(spec.proxy_secret_ref)
        if spec.sts is not None:
            await self._read_sts(secrets, spec.sts)
        if spec.provider == "generic" or spec.secret_ref is not None:
            return
        endpoint = endpoint_of(self._bucket_spec())
        check_store(spec.provider, endpoint.scheme, endpoint.host)
        if account:
            await self._log_in(secrets, spec.provider, account)
            return
        if spec.provider == "aws" and spec.region:
            check_region(spec.region)
        check_own(has_authority=bool(self._tls.ca), has_proxy=self._proxy is not None)

    async def _log_in(self, secrets: Secrets, cloud: Cloud, account: str) -> None:
        """Becomes a ServiceAccount (contract BU-006); the engine's own identity is obstore's to find."""
        spec = self._spec
        endpoint = "" if spec.sts is None else spec.sts.endpoint
        question = store_question(cloud, spec.region, endpoint)
        question = await identified(self._engine, self._declared, secrets, question, account, self._proxy)
        self._cloud = CloudLogin(self._engine, self._declared, self._run, question, spec.timeout.seconds)
        self._renew(await self._cloud.granted())

    async def _read_sts(self, secrets: Secrets, sts: kinds.SecurityTokenService) -> None:
        check_sts(self._spec.provider, _sts_spec(sts))
        if sts.provider == "aws":
            check_sts_endpoint(sts.endpoint)
        tls = await secrets.tls(sts.cert_secret_ref, "sts.certSecretRef")
        if sts.secret_ref is not None:
            data = await secrets.get(sts.secret_ref.name, "sts.secretRef")
            found = sts_credentials_of(data, sts.secret_ref.name, tls)
            self._credentials = msgspec.structs.replace(self._credentials, sts=found)

    def _bucket_spec(self) -> BucketSpec:
        spec = self._spec
        return BucketSpec(
            provider=spec.provider,
            bucket_name=spec.bucket_name,
            endpoint=spec.endpoint,
            region=spec.region,
            prefix=spec.prefix,
            insecure=spec.insecure,
            ignore=spec.ignore,
            timeout_s=spec.timeout.seconds,
            sts=None if spec.sts is None else _sts_spec(spec.sts),
        )


def _of_store(provider: Provider, granted: Granted) -> BucketCredentials:
    if provider == "aws":
        return BucketCredentials(access_key=granted.username, secret_key=granted.secret, session=granted.session)
    return BucketCredentials(bearer=granted.secret)


def _sts_spec(sts: kinds.SecurityTokenService) -> StsSpec:
    return StsSpec(
        provider=sts.provider,
        endpoint=sts.endpoint,
        secret=sts.secret_ref is not None,
        certificates=sts.cert_secret_ref is not None,
    )
