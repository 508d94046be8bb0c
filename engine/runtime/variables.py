"""The variables of a target: `spec.postBuild`, and the ConfigMaps and Secrets that it names."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.secrecy.handed import Handed
from tidelog.events.canonical import encode
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey, StreamName
from tidelog.storage.keys import DataKey


class Variables(msgspec.Struct, frozen=True, kw_only=True):
    """Names and values; which of them are secret; and the digest of them all."""

    values: dict[str, str]
    secret_names: frozenset[str]
    digest: Digest
    handed: Handed = Handed()
    """What is secret in the spec itself."""
    key: DataKey | None = None
    """Of the target's stream, where something is secret."""

    @property
    def secret_values(self) -> list[str]:
        """The values that must not be seen."""
        return [*(self.values[name] for name in sorted(self.secret_names)), *self.handed.values]


class Reads(Protocol):
    """Reads objects that a target names."""

    async def get(self, user: StreamName, key: ObjectKey) -> KubeObject | None:
        """An object as it now is; None when it is not there."""
        ...


async def read_variables(
    inputs: Reads, declared: DeclaredKustomization, key_of: Callable[[StreamName], Awaitable[DataKey]]
) -> Variables:
    """The variables of a target: those of `substituteFrom` in order, then `substitute` (Flux contract KS-061).

    Raises:
        StageError: when an object that is not optional is missing, or cannot be read.
        ClusterError: when the server cannot be asked.
    """
    build = declared.spec.post_build
    values: dict[str, str] = {}
    secret: set[str] = set()
    for reference in build.substitute_from if build else ():
        key = ObjectKey("", reference.kind, declared.key.namespace, reference.name)
        found = await inputs.get(declared.stream, key)
        if found is None:
            if reference.optional:
                continue
            raise StageError(
                "render",
                "BuildFailed",
                f"substitute from '{reference.kind}/{reference.name}' error: it is not there; "
                "create it, or set optional in spec.postBuild.substituteFrom",
            )
        new = _data_of(found, key)
        values |= new
        secret = secret | set(new) if reference.kind == "Secret" else secret - set(new)
    inline = dict(build.substitute) if build else {}
    values |= inline
    handed = declared.handed
    secret = (secret - set(inline)) | (handed.variables & inline.keys())
    # A plain digest of a short secret would tell it to who tries them all.
    data = encode(values)
    owner = await key_of(declared.stream) if secret or handed else None
    digest = digest_of(data) if owner is None or not secret else owner.digest(data)
    return Variables(values=values, secret_names=frozenset(secret), digest=digest, handed=handed, key=owner)


def _data_of(found: KubeObject, key: ObjectKey) -> dict[str, str]:
    data: dict[str, str] = found.get("data") or {}
    if key.kind == "ConfigMap":
        return dict(data)
    try:
        return {name: base64.b64decode(value, validate=True).decode() for name, value in data.items()}
    except (binascii.Error, UnicodeDecodeError):
        raise StageError(
            "render", "BuildFailed", f"Secret {key.namespace}/{key.name} has a value that is no text: it is no variable"
        ) from None
