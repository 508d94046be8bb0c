"""Rendering a chart, within the process that does nothing else."""

import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from tidelog.engine.helm.archives import all_files, edited, unpacked
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.jobs import Answer, Failed, Question, Rendered, Settings
from tidelog.engine.helm.postrender import post_rendered_alone
from tidelog.engine.helm.records import chart_record
from tidelog.engine.helm.requirements import require_installable, without_their_charts
from tidelog.engine.helm.sdk import Capabilities, Chart, Failure, UnknownLibraryError
from tidelog.engine.helm.sorting import sorted_manifests
from tidelog.engine.helm.spec import Crd, RenderedChart, RenderJob
from tidelog.engine.helm.switches import Switches, switches_of
from tidelog.engine.helm.words import LOOKS_UP_NAMES, impure_functions, mentions_lookup, readable

KEPT: Final = 8
"""Charts that stay in memory for the next release of them."""
KEPT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of an archive that does."""
_NOTES: Final = "NOTES.txt"
_Key: TypeAlias = tuple[object, ...]
"""Of a chart: its file, as it was, and what is changed in it before it is loaded."""
_K = TypeVar("_K")
_V = TypeVar("_V")


class _Loaded(msgspec.Struct):
    """A chart, and what is the same in all renders of it."""

    chart: Chart
    metadata: dict[str, Any]
    missing: tuple[str, ...]
    impure: tuple[str, ...]
    archive: bytes | None
    switches: Switches | None
    """None for one without charts within it, which no render changes."""
    record: bytes = b""
    crds: tuple[Crd, ...] | None = None
    mentions_lookup: bool | None = None
    """None while nobody has looked."""

    @property
    def is_small(self) -> bool:
        """Whether there is room for it in memory."""
        return self.archive is not None and len(self.archive) <= KEPT_BYTES_MAX


class Rendering:
    """Renders one chart after the other. It keeps the last few, for one chart may have a hundred releases.

    One with dependencies is kept for the releases that have the same of them on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: OrderedDict[tuple[_Key, bytes], _Loaded] = OrderedDict()
        self._switches: OrderedDict[_Key, Switches] = OrderedDict()
        self._loads = 0
        self._unusable = ""
        try:
            self._capabilities = Capabilities()
        except UnknownLibraryError as error:
            self._unusable = str(error)

    def answer(self, question: Question) -> Answer:
        """What came of a job."""
        before = self._loads
        answer = self._answer(question)
        return msgspec.structs.replace(answer, loads=self._loads - before) if self._loads > before else answer

    def _answer(self, question: Question) -> Answer:
        job = question.job
        api = f"http://127.0.0.1:{self._settings.lookup_port}/{question.token}" if question.token else ""
        if self._unusable:
            return Failed(f"this release of helm-python-sdk cannot be used: {self._unusable}", final=False)
        try:
            self._capabilities.begin_with(known=job.api_versions is None)
            with self._loaded(job) as loaded:
                return Rendered(self._rendered(job, loaded, api))
        except ChartError as error:
            return Failed(error.message, error.final, error.limit)
        except Failure as error:
            failed = _failed(str(error), job, api)
            # Which names there are is nothing that the chart decides.
            by_name = self._settings.dns and LOOKS_UP_NAMES in failed.message
            return msgspec.structs.replace(failed, final=False) if by_name else failed
        except (MemoryError, RecursionError):
            limit = f"it takes more than {self._settings.memory_bytes} bytes of memory"
            return Failed(f"rendering {job.shown_with_release} was ended: {limit}", final=False, limit=limit)
        except OSError as error:
            return Failed(f"the chart {job.shown} cannot be read: {error.strerror}", final=False)

    @contextmanager
    def _loaded(self, job: RenderJob) -> Iterator[_Loaded]:
        status = os.stat(job.chart)  # noqa: PTH116 - of each render
        key = job.chart, job.skip_schema, job.build_metadata, status.st_ino, status.st_size, status.st_mtime_ns
        chosen = _chosen(self._switches.get(key), job)
        loaded = None if chosen is None else self._kept.pop((key, chosen), None)
        if loaded is None:
            self._loads += 1
            loaded = _load(job)
            chosen = _chosen(loaded.switches, job)
            if loaded.switches is not None:
                _put(self._switches, key, loaded.switches)
        is_whole = loaded.switches is None
        try:
            yield loaded
            is_whole = True
        finally:
            # What failed may have been changed by half.
            if not is_whole or chosen is None or not loaded.is_small:
                loaded.chart.close()
            elif (oldest := _put(self._kept, (key, chosen), loaded)) is not None:
                oldest.chart.close()

    def _rendered(self, job: RenderJob, loaded: _Loaded, api: str) -> RenderedChart:
        chart = loaded.chart
        require_installable(loaded.metadata, job.kube_version)
        options = _options(job) | {"enable_dns": self._settings.dns}
        files = chart.render(job.values.decode(), options, api=api if api and _may_look_up(job, loaded) else "")
        if sum(map(len, files.values())) > self._settings.output_bytes:
            limit = f"it writes more than {self._settings.output_bytes} bytes"
            raise ChartError(f"rendering {job.shown_with_release} was ended: {limit}", final=False, limit=limit)
        # A render changes what a chart with dependencies says of itself, and of no other.
        if loaded.switches is not None:
            loaded.metadata = chart.told("metadata")
        metadata = loaded.metadata
        notes = _take_notes(files, metadata["name"])
        manifests, hooks = sorted_manifests(files)
        if job.with_record and not loaded.record:
            loaded.record = chart_record(metadata, chart, unpacked(job.chart, loaded.archive))
        rendered = RenderedChart(
            metadata=metadata,
            manifests=manifests,
            hooks=hooks,
            crds=_crds(loaded),
            notes=notes,
            warnings=loaded.missing,
            impure=tuple(sorted({*loaded.impure, *impure_functions([{"data": job.values.decode()}])})),
            record=loaded.record if job.with_record else b"",
        )
        if job.post_render is None:
            return rendered
        if job.post_render.kustomize:
            raise ChartError("kustomize's post-renderers run outside of this process", final=False)
        return post_rendered_alone(rendered, job.post_render)


def _load(job: RenderJob) -> _Loaded:
    path = Path(job.chart)
    if path.is_dir():
        if job.skip_schema or job.build_metadata:
            what = "the schema of {} can be passed over" if job.skip_schema else "the version of {} can be changed"
            raise ChartError(f"{what.format(job.shown)} in an archive only, and this is a directory")
        archive = None
        chart = Chart.load(job.chart)
    else:
        archive = path.read_bytes()
        taken = archive
        if job.skip_schema or job.build_metadata:
            taken = edited(archive, skip_schema=job.skip_schema, build_metadata=job.build_metadata)
        chart = Chart.of_archive(taken)
    metadata = chart.told("metadata")
    missing = without_their_charts(metadata, chart.told("dependencies"))
    # A template may have its values rendered too (`tpl`).
    texts = [*chart.told("templates"), {"data": json.dumps(chart.told("values"))}]
    switches = None
    if metadata.get("dependencies") or chart.told("dependencies"):
        contents = unpacked(job.chart, archive)
        texts += _templates_below(contents)
        switches = switches_of(contents)
    return _Loaded(chart, metadata, missing, impure_functions(texts), archive, switches)


def _chosen(switches: Switches | None, job: RenderJob) -> bytes | None:
    return b"" if switches is None else switches.chosen(job.values)


def _put(kept: "OrderedDict[_K, _V]", key: _K, value: _V) -> _V | None:
    """Keeps a thing as the newest; returns the oldest, where that goes for it."""
    kept[key] = value
    kept.move_to_end(key)
    return kept.popitem(last=False)[1] if len(kept) > KEPT else None


def _templates_below(contents: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Those of the charts within a chart, which the library does not tell of."""
    return [
        {"name": path, "data": data.decode(errors="replace")}
        for path, data in all_files(contents)
        if path.startswith("charts/") and "/templates/" in path
    ]


def _may_look_up(job: RenderJob, loaded: _Loaded) -> bool:
    if loaded.mentions_lookup is None:
        files = all_files(unpacked(job.chart, loaded.archive))
        loaded.mentions_lookup = mentions_lookup(data for _, data in files)
    return loaded.mentions_lookup or mentions_lookup([job.values])


def _failed(said: str, job: RenderJob, api: str) -> Failed:
    """What Helm said, without the proxy's address, which lets this job in: where that stands, it was not reached."""
    unreached = bool(api) and api in said
    return Failed(readable(said.replace(api, "the cluster") if unreached else said, job), final=not unreached)


def _options(job: RenderJob) -> dict[str, object]:
    return {
        "name": job.release_name,
        "namespace": job.namespace,
        "revision": job.revision,
        "is_install": not job.is_upgrade,
        "is_upgrade": job.is_upgrade,
        "kube_version": job.kube_version,
        "api_versions": list(job.api_versions or ()),
    }


def _crds(loaded: _Loaded) -> tuple[Crd, ...]:
    if loaded.crds is None:
        loaded.crds = tuple(Crd(crd["filename"], crd["data"]) for crd in loaded.chart.told("crds"))
    return loaded.crds


def _take_notes(files: dict[str, str], name: str) -> str:
    """The chart's own notes; those of all charts leave `files`, as they are no manifests."""
    notes = files.get(f"{name}/templates/{_NOTES}", "")
    for path in [path for path in files if path.endswith(_NOTES)]:
        del files[path]
    return notes
