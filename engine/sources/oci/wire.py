"""What registries send: manifests, indexes, lists of tags, tokens, errors."""

from typing import Final

import msgspec

from tidelog.events.typed import decoder

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
EXPIRES_S: Final = 60.0
"""How long a token holds whose server does not say (Docker's rule)."""
SHOWN_MAX: Final = 200


class Platform(msgspec.Struct, frozen=True):
    """What an entry of an index is built for."""

    architecture: str = ""
    os: str = ""


DEFAULT_PLATFORM: Final = Platform("amd64", "linux")


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """Content, by its digest."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = ""


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest, or an index: `manifests` is what tells them apart where the media type does not."""

    schema_version: int
    media_type: str = ""
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    annotations: dict[str, str] | None = None

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests."""
        return self.media_type in INDEXES or (not self.media_type and self.manifests is not None)


class TagList(msgspec.Struct, frozen=True):
    """A page of tags."""

    tags: list[str] | None = None


class Token(msgspec.Struct, frozen=True):
    """What a token server answers."""

    token: str = ""
    access_token: str = ""
    expires_in: float | None = None

    @property
    def value(self) -> str:
        """The token, whichever name it came under."""
        return self.token or self.access_token

    @property
    def lasts_s(self) -> float:
        """How long it can be used."""
        return self.expires_in if self.expires_in is not None else EXPIRES_S


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: list[_Problem] = []
    details: str = ""


def problem_of(body: bytes) -> str:
    """What a registry says is wrong, in a line; nothing where it does not say it as registries do."""
    try:
        found = decoder(_Problems)(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    said = next((f"{each.code}: {each.message}".strip(": ") for each in found.errors if each.code), found.details)
    return "".join(sign if sign.isprintable() else " " for sign in said)[:SHOWN_MAX]


def manifest_of(body: bytes) -> Manifest | None:
    """A manifest or an index; None when it is neither."""
    try:
        found = decoder(Manifest)(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.schema_version == 2 else None


def for_default_platform(index: Manifest) -> Descriptor | None:
    """The entry that Flux takes: the first for linux/amd64, or for no platform."""
    for entry in index.manifests or ():
        if (entry.platform or DEFAULT_PLATFORM) == DEFAULT_PLATFORM:
            return entry
    return None
