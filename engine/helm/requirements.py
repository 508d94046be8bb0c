"""What a chart asks for before it can be installed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tidelog.engine.helm.errors import ChartError
from tidelog.engine.sources.semver import NoRangeError, range_of, version_of

_shortened: Final = re.compile(r"(v?\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", re.ASCII)


def require_installable(metadata: Mapping[str, Any], kube_version: str) -> None:
    """Refuses library charts, and charts for other versions of Kubernetes.

    Raises:
        ChartError: which one it is, and why.
    """
    name, kind = metadata.get("name"), metadata.get("type")
    if kind not in {None, "", "application"}:
        raise ChartError(f"{kind} charts are not installable: {name} is for other charts to depend on")
    wanted = metadata.get("kubeVersion")
    if wanted and kube_version and not _fits(wanted, kube_version):
        raise ChartError(f"chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {kube_version}")


def without_their_charts(metadata: Mapping[str, Any], loaded: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A word on each dependency of `Chart.yaml` that is not in `charts/`. Helm's engine passes them over in silence."""
    names = {chart.get("name") for chart in loaded}
    return tuple(
        f"the dependency {wanted['name']} is in Chart.yaml, and missing in charts/: nothing of it is rendered"
        for wanted in metadata.get("dependencies") or ()
        if wanted.get("name") not in names
    )


def _fits(wanted: str, kube_version: str) -> bool:
    found = _shortened.fullmatch(kube_version)
    version = version_of(f"{found[1]}.{found[2] or 0}.{found[3] or 0}{found[4]}") if found else None
    try:
        return version is not None and version in range_of(wanted)
    except NoRangeError:
        return False
