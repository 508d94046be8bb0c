"""Buckets of object stores: S3 and what speaks its API, Google Cloud Storage, Azure Blob Storage."""

from tidelog.engine.sources.bucket.credentials import (
    NO_CREDENTIALS,
    BucketCredentials,
    StsCredentials,
    credentials_of,
    sts_credentials_of,
)
from tidelog.engine.sources.bucket.fetcher import BucketFetcher
from tidelog.engine.sources.bucket.spec import BucketIndex, BucketSpec, StsSpec

__all__ = [
    "NO_CREDENTIALS",
    "BucketCredentials",
    "BucketFetcher",
    "BucketIndex",
    "BucketSpec",
    "StsCredentials",
    "StsSpec",
    "credentials_of",
    "sts_credentials_of",
]
