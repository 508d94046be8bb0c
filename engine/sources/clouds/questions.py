"""What a cloud is asked, and what it gives: the messages to and from the process that asks. Pure."""

from typing import Final, Literal, TypeAlias

import msgspec

Cloud: TypeAlias = Literal["aws", "azure", "gcp"]
Wanted: TypeAlias = Literal["registry", "store", "audience"]

NAMES: Final[dict[Cloud, str]] = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
"""As people call them."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A ServiceAccount, and who it is to a cloud, as its annotations say."""

    namespace: str
    name: str
    role: str = ""
    """The ARN of a role of AWS."""
    tenant: str = ""
    """Of Azure; with `client`."""
    client: str = ""
    """Of Azure: the application, or the managed identity."""
    provider: str = ""
    """Of Google: that of a workload identity pool; empty for that of the GKE cluster that the engine runs on."""
    email: str = ""
    """Of Google: the service account that is acted as; empty where the Kubernetes one has rights of its own."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a cloud. Equal questions have the same answer, for as long as that lasts."""

    cloud: Cloud
    wanted: Wanted = "registry"
    """Credentials for a registry, or for an object store; or for whom Kubernetes' token of an account is to be."""
    registry: str = ""
    """The registry's host, where the answer depends on it."""
    region: str = ""
    """Of AWS: where it is asked."""
    endpoint: str = ""
    """Of AWS: the STS that is asked in the place of the region's."""
    account: Account | None = None
    """Who we are; the engine itself where nobody is named."""
    proxy: str = ""
    """Through whom the cloud is asked; its credentials are in it."""

    def __repr__(self) -> str:
        return f"Question({self.cloud}, {self.wanted})"

    __str__ = __repr__


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and what proves who the account is: a token of Kubernetes."""

    question: Question
    token: str = ""

    def __repr__(self) -> str:
        return f"Job({self.question})"

    __str__ = __repr__


class Granted(msgspec.Struct, frozen=True, kw_only=True, tag="granted"):
    """What a cloud gave. It is never printed."""

    username: str = ""
    """For a registry; for a store of AWS the id of the key."""
    secret: str
    """The password, key or token."""
    session: str = ""
    """What AWS wants to see beside a key that ends."""
    lasts_s: float = 0.0
    """For how long; none where nobody says so."""

    def __repr__(self) -> str:
        return "Granted()"

    __str__ = __repr__


class Denied(msgspec.Struct, frozen=True, kw_only=True, tag="denied"):
    """Why a cloud gave nothing, and what to do; nothing secret is in it."""

    why: str


Answer: TypeAlias = Granted | Denied


class DeniedError(Exception):
    """Raised where a cloud gives nothing. The message goes on after the cloud's name: what happened, and what to do."""
