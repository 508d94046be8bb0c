"""What targets have in common: what is done to their objects on the way to a cluster, and which were applied."""

from typing import ClassVar

import msgspec

from tidelog.engine.kinds.meta import KubeStruct, Labels, LocalReference, Rule, SecretKeyReference


class CommonMetadata(KubeStruct, frozen=True, kw_only=True):
    """Labels and annotations for all objects."""

    annotations: Labels = msgspec.field(default_factory=dict)
    """Annotations that each object gets, whatever it says itself."""
    labels: Labels = msgspec.field(default_factory=dict)
    """Labels that each object gets, whatever it says itself."""


_ONE_REFERENCE = "exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified"


class KubeConfigReference(KubeStruct, frozen=True, kw_only=True):
    """The cluster to apply to, where it is another one."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.configMapRef) || has(self.secretRef)",
            _ONE_REFERENCE,
            lambda config: "configMapRef" in config or "secretRef" in config,
        ),
        Rule(
            "!has(self.configMapRef) || !has(self.secretRef)",
            _ONE_REFERENCE,
            lambda config: "configMapRef" not in config or "secretRef" not in config,
        ),
    )

    config_map_ref: LocalReference | None = None
    """ConfigMap that says how to reach the cluster as a ServiceAccount."""
    secret_ref: SecretKeyReference | None = None
    """Secret that holds a kubeconfig."""


class Selector(KubeStruct, frozen=True, kw_only=True):
    """Chooses objects: by regular expressions for group to namespace, and by selectors; all that are given count."""

    group: str = ""
    """API group."""
    version: str = ""
    """API version."""
    kind: str = ""
    """Kind."""
    name: str = ""
    """Name."""
    namespace: str = ""
    """Namespace."""
    annotation_selector: str = ""
    """Selector over annotations, in the form of label selectors."""
    label_selector: str = ""
    """Selector over labels."""


class Patch(KubeStruct, frozen=True, kw_only=True):
    """A change to rendered objects."""

    patch: str
    """Strategic merge patch, or a list of JSON patch operations, as YAML."""
    target: Selector | None = None
    """Objects that it changes; a strategic merge patch can name its object itself."""


class Image(KubeStruct, frozen=True, kw_only=True):
    """Another name, tag or digest for an image."""

    name: str
    """Name of the image as it stands in the objects, without a tag."""
    new_name: str = ""
    """Name that takes its place."""
    new_tag: str = ""
    """Tag that takes the place of its tag or digest."""
    digest: str = ""
    """Digest that takes the place of its tag or digest; newTag is then not used."""


class CustomHealthCheck(KubeStruct, frozen=True, kw_only=True):
    """How to tell the health of objects of a kind, by CEL expressions over their fields."""

    api_version: str
    """API version of the kind; only its group counts."""
    kind: str = ""
    """The kind; all of the group where it is not given."""
    in_progress: str = ""
    """Expression that is true while an object is being worked on."""
    failed: str = ""
    """Expression that is true when an object has failed."""
    current: str
    """Expression that is true when an object is ready."""


class IgnoreRule(KubeStruct, frozen=True, kw_only=True):
    """Fields that are left alone."""

    paths: tuple[str, ...]
    """JSON pointers (RFC 6901) of the fields."""
    target: Selector | None = None
    """Objects that it is about; all where it is not given."""


class InventoryEntry(KubeStruct, frozen=True, kw_only=True):
    """An object that was applied."""

    id: str
    """The object, as `<namespace>_<name>_<group>_<kind>`."""
    v: str
    """API version of its kind."""


class Inventory(KubeStruct, frozen=True, kw_only=True):
    """Which objects were applied."""

    entries: tuple[InventoryEntry, ...]
    """The objects."""
