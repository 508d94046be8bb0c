"""What a chart is rendered from, and what comes of it."""

from pathlib import PurePath
from typing import Any, Final, Literal, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.spec import CommonMetadata, Image, Patch

Strategy: TypeAlias = Literal["nohooks", "combined", "separate"]
"""Whether hooks are post-rendered, and with the others or by themselves (contract HR-056)."""

TEST: Final = "test"
"""The event of hooks that `helm test` runs."""


class Kustomize(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A post-renderer."""

    patches: tuple[Patch, ...] = ()
    images: tuple[Image, ...] = ()


class PostRender(msgspec.Struct, frozen=True):
    """What a HelmRelease adds."""

    owner_labels: dict[str, str]
    """`helm.toolkit.fluxcd.io/name` and `/namespace`: over all others."""
    kustomize: tuple[Kustomize, ...] = ()
    common: CommonMetadata = CommonMetadata()
    strategy: Strategy = "combined"


class RenderJob(msgspec.Struct, frozen=True):
    """A chart, and what decides how it is rendered: equal jobs on equal charts, equal results, unless it is impure."""

    chart: str
    """The path of a `.tgz` or of a directory, below one of the pool's roots."""
    release_name: str
    namespace: str
    values: bytes = b"{}"
    """The user's, as a JSON object; the chart's own defaults come in below them."""
    kube_version: str = ""
    """As the API server says it: `v1.35.4`; empty for the version that the SDK was built for."""
    api_versions: tuple[str, ...] | None = None
    """What `.Capabilities.APIVersions` has, and nothing else: of the cluster, `apps/v1` and `apps/v1/Deployment`.

    None for the versions that the SDK was built with, which is what `helm template` takes.
    """
    is_upgrade: bool = False
    revision: int = 1
    skip_schema: bool = False
    """Whether `values.schema.json` is passed over (contract HR-039)."""
    build_metadata: str = ""
    """What the chart's version has behind `+`; empty for its own (contract HR-067)."""
    post_render: PostRender | None = None
    """What is added to the objects; its kustomize is none of this process's, and so has to be empty."""
    with_record: bool = False
    """Whether the content of the chart is wanted, as a release record holds it."""
    called: str = ""
    """What errors call the chart; empty for the name of its file."""

    @property
    def shown(self) -> str:
        """The chart, for people."""
        return self.called or PurePath(self.chart).name

    @property
    def shown_with_release(self) -> str:
        """The chart, and for which release it is, for people."""
        return f"the chart {self.shown} for release {self.namespace}/{self.release_name}"


class Manifest(msgspec.Struct, frozen=True):
    """One document of a template."""

    path: str
    """Of the template: `podinfo/templates/deployment.yaml`."""
    text: str
    """As the template gave it."""
    content: KubeObject | None
    """What it says; None for a document of comments alone."""


class Hook(msgspec.Struct, frozen=True):
    """An object that is made at certain events of a release, and not with the others."""

    name: str
    kind: str
    path: str
    text: str
    content: KubeObject
    events: tuple[str, ...]
    """`pre-install`, `post-upgrade`, `test` and their like."""
    weight: int = 0
    delete_policies: tuple[str, ...] = ()
    """As written, in lower case; none means `before-hook-creation`."""
    output_log_policies: tuple[str, ...] = ()


class Crd(msgspec.Struct, frozen=True):
    """A file of a `crds/` directory; Helm renders none of them."""

    path: str
    text: str


class LookedUp(msgspec.Struct, frozen=True, order=True):
    """What `lookup` read: an object, a list of objects (`name` is empty), or which kinds there are (`kind` is empty).

    A list is of all namespaces where `namespace` is empty, too. It holds no value.
    """

    api_version: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    version: str = ""
    """The object's `resourceVersion`; of what has many, a digest that changes with any of it; empty: it is absent."""


class RenderedChart(msgspec.Struct, frozen=True):
    """What came of a chart."""

    metadata: dict[str, Any]
    """`Chart.yaml`, with the dependencies that are switched on, as a release record holds it."""
    manifests: tuple[Manifest, ...]
    """Without hooks, in Helm's order of installing."""
    hooks: tuple[Hook, ...]
    """In Helm's order of installing; who runs them sorts by weight and name."""
    crds: tuple[Crd, ...]
    """Of the chart and of its dependencies that are switched on."""
    notes: str
    warnings: tuple[str, ...] = ()
    """What is likely a mistake, and is passed over, as Helm does."""
    impure: tuple[str, ...] = ()
    """Functions in the templates whose answers the job does not decide: `lookup`, `now`, `randAlphaNum`."""
    looked_up: tuple[LookedUp, ...] = ()
    """What the cluster was asked for: a render that finds the same again gives the same, as far as `lookup` goes."""
    record: bytes = b""
    """The chart as the field `chart` of a release record, JSON; empty unless it was asked for."""


def manifest_text(rendered: RenderedChart) -> str:
    """The manifests as one text: what a release record holds, and `helm get manifest` shows."""
    return "".join(f"---\n# Source: {manifest.path}\n{manifest.text}\n" for manifest in rendered.manifests)
