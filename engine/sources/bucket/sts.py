"""Temporary keys for an LDAP user, as MinIO gives them (contract BU-009)."""

from typing import Final

from tidelog.engine.sources.access import Proxy
from tidelog.engine.sources.bucket.answers import AnswerError, read_keys, read_refusal
from tidelog.engine.sources.bucket.credentials import S3Keys, StsCredentials
from tidelog.engine.sources.bucket.spec import StsSpec
from tidelog.engine.sources.bucket.web import way_to
from tidelog.engine.sources.errors import FetchError

ACTION: Final = "AssumeRoleWithLDAPIdentity"
VERSION: Final = "2011-06-15"


async def ldap_keys(sts: StsSpec, credentials: StsCredentials, proxy: Proxy | None) -> S3Keys:
    """Asks for keys.

    Raises:
        FetchError: when there are none to be had.
    """
    where = "the STS endpoint in spec.sts.endpoint"
    form = {
        "Action": ACTION,
        "Version": VERSION,
        "LDAPUsername": credentials.username,
        "LDAPPassword": credentials.password,
    }
    async with way_to(sts.endpoint, credentials.tls, proxy, at_once=1) as way:
        status, data = await way.post(sts.endpoint, form, where)
    if status != 200:
        code = read_refusal(data).code
        why = f"status {status}" + (f", {code}" if code else "")
        if status in {400, 401, 403}:
            raise FetchError(
                "AuthenticationFailed",
                f"{where} refuses username and password ({why}): correct the Secret in spec.sts.secretRef",
            )
        raise FetchError(
            "BucketOperationFailed", f"{where} answers with {why}: it is asked again, look at the server if it stays"
        )
    try:
        found = read_keys(data)
    except AnswerError as error:
        raise FetchError(
            "BucketOperationFailed", f"{where} answers without keys: {error}: is it an STS with {ACTION}?"
        ) from None
    return S3Keys(access_key=found["AccessKeyId"], secret_key=found["SecretAccessKey"], token=found["SessionToken"])
