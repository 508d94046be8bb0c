"""Helm's release records: a Secret for each revision of a release (contract HR-108), and Flux's digest of one (HR-125).

What the engine decides by is a field of a struct. What it only passes on (the chart's files, its values and their
schema) stays as it is written, so that a record of Helm's goes back as it came.
"""

import base64
import binascii
import gzip
import hashlib
import re
import sys
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.gojson import encoded, go_map
from tidelog.engine.helm.spec import TEST
from tidelog.engine.objects.depth import is_deep, scalars
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.digest import Digest, digest_of
from tidelog.events.typed import converter, decoder

TYPE: Final = "helm.sh/release.v1"
_OTHER_ALGORITHMS: Final = frozenset({"sha1", "sha384", "sha512"})
"""Of Flux's flag `--snapshot-digest-algo`. Python has no blake3."""
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a record that is unpacked; the Secret has one MiB at most, and gzip makes a thousandfold of it."""
SYSTEM_LABELS: Final = ("name", "owner", "status", "version", "createdAt", "modifiedAt")
VERSION_MAX: Final = 2**31 - 1
"""Of a release: as many upgrades nobody makes."""
_DEEP: Final = "there are too many maps and lists within one another"
_GZIP: Final = b"\x1f\x8b\x08"
_fraction: Final = re.compile(r"(\.\d*?)0*(?=Z|[-+]\d\d:\d\d$)")
_NO_TIMES: Final = frozenset(("", "0001-01-01T00:00:00Z"))


class HookRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a hook last ran, and how it ended."""

    started_at: str | None = None
    completed_at: str | None = None
    phase: str = msgspec.field(default_factory=str)
    """`Unknown`, `Running`, `Succeeded`, `Failed`, or empty."""


class RecordedHook(msgspec.Struct, frozen=True, omit_defaults=True):
    """A hook in a record."""

    name: str = ""
    kind: str = ""
    path: str = ""
    manifest: str = ""
    events: list[str] | None = None
    last_run: HookRun = msgspec.field(default_factory=HookRun)
    weight: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0
    delete_policies: list[str] | None = None
    output_log_policies: list[str] | None = None


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a release fares. Times are RFC 3339, in whatever zone Helm ran."""

    first_deployed: str | None = None
    last_deployed: str | None = None
    deleted: str | None = None
    description: str = ""
    status: str = ""
    notes: str = ""


class RecordedChart(msgspec.Struct, frozen=True):
    """The chart in a record."""

    metadata: dict[str, Any] | None = None
    lock: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    templates: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    values: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    schema: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    schemamodtime: str = "0001-01-01T00:00:00Z"
    files: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    modtime: str | msgspec.UnsetType = msgspec.UNSET


class Release(msgspec.Struct, frozen=True, omit_defaults=True):
    """One revision of a release."""

    name: str = ""
    info: Info = msgspec.field(default_factory=Info)
    chart: RecordedChart | None = None
    config: dict[str, Any] | None = None
    """The user's values."""
    manifest: str = ""
    hooks: list[RecordedHook] | None = None
    version: Annotated[int, msgspec.Meta(ge=0, le=VERSION_MAX)] = 0
    namespace: str = ""
    apply_method: str = ""
    """`ssa`, `csa`, or empty, which means client-side apply."""


class _Metadata(msgspec.Struct):
    """What of a chart's metadata is more than texts."""

    maintainers: list[dict[str, Any] | None] | None = None
    dependencies: list[dict[str, Any]] | None = None
    annotations: dict[str, Any] | None = None


class Record(msgspec.Struct, frozen=True):
    """A release, and the labels on its Secret that are the user's."""

    release: Release
    labels: dict[str, str] = {}


def secret_name(release: str, version: int) -> str:
    """What the Secret of a revision is called."""
    return f"sh.helm.release.v1.{release}.v{version}"


def record_secret(
    record: Record, storage_namespace: str, *, created_at: int | None = None, modified_at: int | None = None
) -> KubeObject:
    """The Secret that holds a release.

    Args:
        record: the release.
        storage_namespace: where it goes.
        created_at: seconds since 1970, of a new record.
        modified_at: of one that is written again; Helm then drops the first.
    """
    release = record.release
    times = {"createdAt": created_at, "modifiedAt": modified_at}
    labels = {
        **{name: value for name, value in record.labels.items() if name not in SYSTEM_LABELS},
        **{name: str(value) for name, value in times.items() if value is not None},
        "name": release.name,
        "owner": "helm",
        "status": release.info.status,
        "version": str(release.version),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(release.name, release.version),
            "namespace": storage_namespace,
            "labels": labels,
        },
        "type": TYPE,
        "data": {"release": base64.b64encode(encode_release(release)).decode()},
    }


def read_secret(secret: KubeObject) -> Record:
    """The release in a Secret of Helm's.

    Raises:
        RecordError: when it holds none; it quotes nothing of it.
    """
    metadata = secret.get("metadata") or {}
    name = metadata.get("name")
    data = (secret.get("data") or {}).get("release")
    if not isinstance(data, str):
        raise RecordError(f"the Secret {name} holds no release: it has no data.release")
    try:
        release = decode_release(base64.b64decode(data, validate=True))
    except RecordError as error:
        raise RecordError(f"the Secret {name} holds no release: {error}") from None
    except ValueError:
        raise RecordError(f"the Secret {name} holds no release: it is no base64") from None
    labels: Mapping[str, str] = metadata.get("labels") or {}
    return Record(release, {key: value for key, value in labels.items() if key not in SYSTEM_LABELS})


def encode_release(release: Release) -> bytes:
    """A release as `data.release` has it, below the Secret's own base64."""
    text = msgspec.json.encode(_with_required(release))
    return base64.b64encode(gzip.compress(text, compresslevel=9, mtime=0))


def decode_release(data: bytes) -> Release:
    """What `encode_release` made, or Helm.

    Raises:
        RecordError: when it is neither.
    """
    try:
        packed = base64.b64decode(data, validate=True)
        text = _unpacked(packed) if packed.startswith(_GZIP) else packed
        release = decoder(Release)(text)
    except binascii.Error:
        raise RecordError("it is no base64 within base64") from None
    except (zlib.error, EOFError):
        raise RecordError("it is no gzip") from None
    except msgspec.ValidationError as error:
        raise RecordError(f"it is no release: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RecordError("it is no JSON") from None
    except RecursionError:
        raise RecordError(_DEEP) from None
    _require_sound(release)
    return release


def snapshot_digest(release: Release, oci_digest: str = "", like: str = "") -> Digest:
    """Flux's digest of a release, by which it knows one that it made (contract HR-125).

    It is over the encoding by Go of a struct, so fields stand in that struct's order, and what is empty is left out or
    is null as its field says there.

    Args:
        release: whose digest it is.
        oci_digest: of the chart that it was made of.
        like: a digest that it is to be held against: Flux may have been told to use another algorithm than SHA-256.
    """
    chart = release.chart.metadata if release.chart else None
    hooks = [_hook(hook) for hook in release.hooks or () if TEST not in (hook.events or ())]
    seen = {
        "name": release.name,
        "version": release.version,
        "info": _info(release.info),
        "chartMetadata": _metadata(chart or {}),
        "config": go_map(release.config) if release.config else None,
        "manifest": release.manifest,
        "hooks": hooks or None,
        "namespace": release.namespace,
        **({"ociDigest": oci_digest} if oci_digest else {}),
    }
    data = f"{encoded(seen)}\n".encode()
    algorithm = like.partition(":")[0]
    if algorithm not in _OTHER_ALGORITHMS:
        return digest_of(data)
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}")


def _with_required(release: Release) -> dict[str, Any]:
    """The release with the fields that Go writes though they are empty."""
    found: dict[str, Any] = msgspec.to_builtins(release, builtin_types=(msgspec.Raw,))
    for hook in found.get("hooks") or ():
        hook.setdefault("last_run", {}).setdefault("phase", "")
    return found


def _unpacked(packed: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    text = stream.decompress(packed, RECORD_BYTES_MAX)
    if stream.unconsumed_tail:
        raise RecordError(f"it unpacks to more than {RECORD_BYTES_MAX} bytes")
    if not stream.eof:
        raise EOFError
    return text


def _require_sound(release: Release) -> None:
    """Values and metadata are as Go could have written them: whoever may write Secrets may have made a record."""
    metadata = release.chart.metadata if release.chart else None
    held = {"config": release.config, "metadata": metadata}
    if is_deep(held):
        raise RecordError(_DEEP)
    if any(isinstance(value, int) and abs(value) > sys.float_info.max for value in scalars(held)):
        raise RecordError("a number in it is beyond all floats")
    if metadata is None:
        return
    try:
        converter(_Metadata)(metadata)
    except msgspec.ValidationError as error:
        raise RecordError(f"the metadata of its chart is none: {error}") from None


def _time(text: str | None) -> str | None:
    """A time as Go writes it after reading it; None where Go has none."""
    if text is None or text in _NO_TIMES:
        return None
    plain = _fraction.sub(lambda found: "" if found[1] == "." else found[1], text.replace("z", "Z").replace("t", "T"))
    return re.sub(r"[-+]00:00$", "Z", plain)


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As Go's `omitempty`."""
    return {name: value for name, value in fields.items() if value}


def _info(info: Info) -> dict[str, Any]:
    return _filled(
        {
            "first_deployed": _time(info.first_deployed),
            "last_deployed": _time(info.last_deployed),
            "deleted": _time(info.deleted),
            "description": info.description,
            "status": info.status,
            "notes": info.notes,
        }
    )


def _hook(hook: RecordedHook) -> dict[str, Any]:
    run = hook.last_run
    before = _filled(
        {"name": hook.name, "kind": hook.kind, "path": hook.path, "manifest": hook.manifest, "events": hook.events}
    )
    times = _filled({"started_at": _time(run.started_at), "completed_at": _time(run.completed_at)})
    after = _filled(
        {
            "weight": hook.weight,
            "delete_policies": hook.delete_policies,
            "output_log_policies": hook.output_log_policies,
        }
    )
    return {**before, "last_run": {**times, "phase": run.phase}, **after}


_METADATA: Final = (
    "name",
    "home",
    "sources",
    "version",
    "description",
    "keywords",
    "maintainers",
    "icon",
    "apiVersion",
    "condition",
    "tags",
    "appVersion",
    "deprecated",
    "annotations",
    "kubeVersion",
    "dependencies",
    "type",
)
_DEPENDENCY: Final = ("version", "condition", "tags", "enabled", "import-values", "alias")


def _metadata(chart: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: chart.get(name) for name in _METADATA}
    found["annotations"] = go_map(found["annotations"])
    found["maintainers"] = [
        person and _filled({name: person.get(name) for name in ("name", "email", "url")})
        for person in found["maintainers"] or ()
    ]
    found["dependencies"] = [_dependency(wanted) for wanted in found["dependencies"] or ()]
    return _filled(found)


def _dependency(wanted: Mapping[str, Any]) -> dict[str, Any]:
    rest = _filled({name: wanted.get(name) for name in _DEPENDENCY})
    version = {"version": rest.pop("version")} if "version" in rest else {}
    if "import-values" in rest:
        rest["import-values"] = go_map(rest["import-values"])
    return {"name": wanted.get("name", ""), **version, "repository": wanted.get("repository", ""), **rest}
