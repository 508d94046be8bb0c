"""What a release is rendered from (its values, its chart, the cluster), and the rendering of it."""

import base64
import binascii
import copy
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec

from tidelog.engine.documents import merged
from tidelog.engine.helm.errors import ChartError, ValuesError
from tidelog.engine.helm.lookup import LookupSource
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.postrender import post_rendered
from tidelog.engine.helm.sampling import Secrecy, handed_stand_ins, needs_sample, secrecy_of, stand_in, with_flags_of
from tidelog.engine.helm.setting import Scalar
from tidelog.engine.helm.spec import Kustomize, PostRender, RenderedChart, RenderJob
from tidelog.engine.helm.target import WantedObjects, crd_documents, wanted_objects
from tidelog.engine.helm.values import Given, Values, changed, encoded_values, merged_values, values_digest
from tidelog.engine.kinds.decode import encode as encode_kind
from tidelog.engine.kinds.helmactions import CrdsPolicy
from tidelog.engine.kinds.helmrelease import HelmReleaseSpec, ValuesReference
from tidelog.engine.kinds.meta import RELEASE_OWNER_NAME, RELEASE_OWNER_NAMESPACE
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.render.spec import CommonMetadata
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.scope import FindsKinds, scopes_of
from tidelog.engine.runtime.variables import Reads
from tidelog.engine.secrecy.forms import PLAIN_WORDS, SHORT
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.typed import converter
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.keys import DataKey

VALUES_ERROR = "ValuesError"
"""The reason of the condition."""


class ReleaseValues(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a release, and what of them is secret."""

    values: Values
    stand_ins: Values | None
    """The same with others in the place of those that come from Secrets; None where none of these came so far."""
    config_digest: Digest
    """Flux's (contract HR-027), which is a plain one."""
    digest: Digest
    """For what the engine remembers; keyed where a Secret was read."""
    secret_values: tuple[str, ...]
    """The texts and numbers that must not be seen."""
    given: tuple[Given, ...] = ()
    """What the entries of `valuesFrom` gave."""


class ReleaseRendering(msgspec.Struct, frozen=True):
    """A rendered chart, post-renderers included, and what of it is secret."""

    chart: RenderedChart
    secrecy: Secrecy
    found: tuple[str, ...] = ()
    """What is secret in it, and its values do not tell: what it looked up, and what stands in hooks."""


async def read_values(
    inputs: Reads,
    user: StreamName,
    namespace: str,
    references: Sequence[ValuesReference],
    inline: Values,
    key_of: Callable[[StreamName], Awaitable[DataKey]],
    handed: Collection[str] = (),
) -> ReleaseValues:
    """The values of a release: those of `valuesFrom` in order, then `spec.values` (contract HR-022 to HR-026).

    Args:
        inputs: reads and watches what is named.
        user: the release.
        namespace: of the release, and of all that it names.
        references: `spec.valuesFrom`.
        inline: `spec.values`; left as they are.
        key_of: gives the key of a stream.
        handed: secret texts that whoever made the release may have put into `inline`.

    Raises:
        StageError: when an object or a key that is not optional is missing, or cannot be read. It quotes no value.
        ClusterError: when the server cannot be asked.
    """
    given = [await _given(inputs, user, namespace, reference) for reference in references]
    try:
        values, stand_ins, secret_values = await anyio.to_thread.run_sync(_merged, inline, given, handed)
    except ValuesError as error:
        raise StageError("render", VALUES_ERROR, str(error)) from None
    # A plain digest of a short secret would tell it to who tries them all.
    is_secret = stand_ins != values or any(one.is_secret and one.data is not None for one in given)
    data = encoded_values(values)
    return ReleaseValues(
        values=values,
        stand_ins=None if stand_ins == values else stand_ins,
        config_digest=values_digest(values),
        digest=(await key_of(user)).digest(data) if is_secret else digest_of(data),
        secret_values=secret_values,
        given=tuple(given),
    )


async def preserving(
    values: ReleaseValues, before: Values, user: StreamName, key_of: Callable[[StreamName], Awaitable[DataKey]]
) -> ReleaseValues:
    """The values over those of the version before (contract HR-044). What of these is secret nobody knows: all is."""
    whole = merged(copy.deepcopy(before), values.values)
    others = merged(changed(before, stand_in), values.stand_ins or values.values)
    return msgspec.structs.replace(
        values,
        values=whole,
        stand_ins=others,
        config_digest=values_digest(whole),
        digest=(await key_of(user)).digest(encoded_values(whole)),
    )


async def chart_file(artifacts: ArtifactStore, tree: str, artifact: Digest) -> Path:
    """Where the archive of a chart is: the file that the store keeps, which is below `ArtifactStore.tarballs`.

    An artifact of a HelmChart is the packaged chart itself, as is a layer of an OCIRepository that was copied; one that
    was extracted, and one whose file is no more, is the archive of its tree.

    Raises:
        ObjectMissingError: when something of it is not in the store.
        StoreFullError: when there is no room to pack it anew.
    """
    return await anyio.to_thread.run_sync(_chart_file, artifacts, tree, artifact)


async def chart_beside(artifacts: ArtifactStore, tree: str, artifact: Digest, into: Path) -> Path:
    """As `chart_file`, for who only reads the store: an archive that it does not keep is packed into a directory.

    Raises:
        ObjectMissingError: when something of it is not in the store.
    """

    def found() -> Path:
        path = artifacts.whole_tarball(artifact)
        return path or artifacts.pack(tree, into / f"{tree}.tar.gz")

    return await anyio.to_thread.run_sync(found)


def post_render_of(spec: HelmReleaseSpec, owner: ObjectKey) -> PostRender:
    """What a HelmRelease adds to what its chart renders (contract HR-055, HR-056, HR-111, HR-112)."""
    steps = (one.kustomize for one in spec.post_renderers)
    common = spec.common_metadata
    return PostRender(
        owner_labels=owner_labels(owner),
        kustomize=tuple(
            converter(Kustomize)(encode_kind(step)) for step in steps if step and (step.patches or step.images)
        ),
        common=CommonMetadata() if common is None else converter(CommonMetadata)(encode_kind(common)),
        strategy=spec.effective_post_render_strategy,
    )


def owner_labels(owner: ObjectKey) -> dict[str, str]:
    """The labels that say which HelmRelease an object is of."""
    return {RELEASE_OWNER_NAME: owner.name, RELEASE_OWNER_NAMESPACE: owner.namespace}


async def render_release(
    charts: ChartRenderer,
    renderer: Renderer,
    job: RenderJob,
    values: ReleaseValues,
    post: PostRender,
    secrets: SecretValues,
    *,
    lookup: LookupSource | None = None,
    time_s: float | None = None,
) -> ReleaseRendering:
    """Renders a release: a second time too, where that tells what of it is secret.

    Args:
        charts: renders charts.
        renderer: has kustomize.
        job: the chart, and what decides how it is rendered, but for values and post-renderers.
        values: of the release.
        post: what is added.
        secrets: what an error must not quote; the values that are secret are added.
        lookup: where the chart may look objects up; where it is None, there are none.
        time_s: what each step may take, within the limits.

    Raises:
        ChartError: when it cannot be rendered.
    """
    secrets.add(values.secret_values)
    looked_up: set[str] = set()
    source = (
        None
        if lookup is None
        else msgspec.structs.replace(lookup, on_secret=lambda found: looked_up.update(_texts(found)))
    )

    async def rendered(with_values: Values, *, with_record: bool) -> RenderedChart:
        own = msgspec.structs.replace(job, values=encoded_values(with_values), with_record=with_record)
        if not post.kustomize:
            own = msgspec.structs.replace(own, post_render=post)
        found = await charts.render(own, secrets, cluster=source, time_s=time_s)
        if not post.kustomize:
            return found
        return await post_rendered(found, post, lambda files: renderer.build_files(files, secrets, time_s=time_s))

    try:
        chart = await rendered(values.values, with_record=job.with_record)
    except RenderError as error:
        raise ChartError(error.message, final=error.final) from None
    except ChartError as error:
        message = await anyio.to_thread.run_sync(secrets.filter, error.message)
        raise ChartError(message, final=error.final, limit=error.limit) from None
    sample: RenderedChart | None = chart
    if needs_sample(chart, has_secrets=values.stand_ins is not None):
        sample = await _first(lambda others: rendered(others, with_record=False), _samples(values))
    known = [*values.secret_values, *looked_up]
    secrecy = await anyio.to_thread.run_sync(secrecy_of, chart, sample, known)
    secrets.add(secrecy.hook_texts)
    return ReleaseRendering(chart, secrecy, tuple(sorted({*looked_up, *secrecy.hook_texts})))


def _samples(values: ReleaseValues) -> list[Values]:
    """The values to render a second time with; the next where a chart cannot be rendered with one."""
    if values.stand_ins is None:
        return [values.values]
    calmer = with_flags_of(values.values, values.stand_ins)
    return [values.stand_ins] if calmer == values.stand_ins else [values.stand_ins, calmer]


async def _first(render: Callable[[Values], Awaitable[RenderedChart]], tries: Sequence[Values]) -> RenderedChart | None:
    for values in tries:
        try:
            return await render(values)
        except (ChartError, RenderError):
            continue
    return None


def _texts(secret: KubeObject) -> Iterator[str]:
    """What a Secret holds that a chart has read."""
    for value in (secret.get("data") or {}).values():
        try:
            yield base64.b64decode(str(value)).decode()
        except ValueError:
            yield str(value)


async def release_objects(
    rendering: ReleaseRendering,
    cluster: FindsKinds,
    owner: ObjectKey,
    *,
    name: str,
    namespace: str,
    crds: CrdsPolicy,
) -> WantedObjects:
    """The objects that a release wants, each where its kind belongs.

    Args:
        rendering: of the release.
        cluster: knows kinds.
        owner: the HelmRelease.
        name: of the release.
        namespace: of the release.
        crds: what becomes of `crds/`.

    Raises:
        ChartError: when an object comes twice or is none, with the templates.
        ClusterError: when the cluster cannot be asked for its kinds.
    """
    chart = rendering.chart
    objects = [manifest.content for manifest in chart.manifests if manifest.content is not None]
    scopes = await scopes_of([*objects, *(found for _, found in crd_documents(chart.crds))], cluster)
    return wanted_objects(
        chart,
        rendering.secrecy,
        scopes,
        name=name,
        namespace=namespace,
        crds=crds,
        owner_labels=owner_labels(owner),
    )


async def _given(inputs: Reads, user: StreamName, namespace: str, reference: ValuesReference) -> Given:
    key = ObjectKey("", reference.kind, namespace, reference.name)
    found = await inputs.get(user, key)
    name = reference.effective_values_key
    data = None if found is None else _data_of(found, key, name)
    if data is None and not reference.optional:
        what = "it is not there" if found is None else "it has no such key"
        raise StageError(
            "render",
            VALUES_ERROR,
            f"could not resolve {_said(key, name)}: {what}; create it, or set optional in spec.valuesFrom",
        )
    return Given(
        kind=reference.kind,
        name=f"{namespace}/{reference.name}",
        key=name,
        target_path=reference.target_path or "",
        literal=reference.literal,
        optional=reference.optional,
        data=data,
    )


def _data_of(found: KubeObject, key: ObjectKey, name: str) -> bytes | None:
    value = (found.get("data") or {}).get(name)
    if value is None or key.kind == "ConfigMap":
        return None if value is None else str(value).encode()
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise StageError("render", VALUES_ERROR, f"could not resolve {_said(key, name)}: it is not in base64") from None


def _said(key: ObjectKey, name: str) -> str:
    return f"{key.kind} '{key.namespace}/{key.name}' with key {name!r}"


def _merged(inline: Values, given: Sequence[Given], handed: Collection[str]) -> tuple[Values, Values, tuple[str, ...]]:
    """The values, those with stand-ins, and what is secret."""
    secret_values: set[str] = {*handed}

    def change(value: Scalar) -> Scalar:
        secret_values.update(_shown(value))
        return stand_in(value)

    values = merged_values(inline, given)
    others = merged_values(handed_stand_ins(inline, handed) if handed else inline, given, change)
    return values, others, tuple(sorted(secret_values))


def _shown(value: Scalar) -> Sequence[str]:
    """How a value may stand in a text, where that says by itself that it is one."""
    if isinstance(value, str):
        return [value] if value.strip() and value not in PLAIN_WORDS else []
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [str(value)] if is_number and len(str(value)) >= SHORT else []


def _chart_file(artifacts: ArtifactStore, tree: str, artifact: Digest) -> Path:
    path = artifacts.tarball_path(artifact)
    if path is not None and artifacts.check_tarball(artifact) == "whole":
        return path
    return artifacts.tarball(tree).path
