"""The process that renders charts: `python -I -m tidelog.engine.helm.worker SETTINGS`, asked on stdin.

A process of its own, because a template is a program of a stranger's: it takes what CPU and memory it likes, and Go
cannot be interrupted. The kernel keeps it to charts and to what Python is made of, before any of Go's threads starts.
"""

import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from tidelog.engine.helm.archives import unpacked, without_schema
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.jobs import OVER_MEMORY, Answer, Failed, Question, Rendered, Settings
from tidelog.engine.helm.records import chart_record
from tidelog.engine.helm.requirements import require_installable, without_their_charts
from tidelog.engine.helm.sorting import sorted_manifests
from tidelog.engine.helm.spec import Crd, RenderedChart, RenderJob
from tidelog.engine.helm.words import impure_functions, readable
from tidelog.engine.render.landlock import Fence, Reach
from tidelog.engine.worker import die_with_parent, messages, write

_LOOK_S: Final = 0.02
"""Between looks at the memory: Go takes some gigabytes a second."""
_NOTES: Final = "NOTES.txt"
_SYSTEM: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/local/lib", "/dev/urandom")


class _Watch:
    """Ends this process when it grows beyond its limit, while it is at work."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._at_work = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def __enter__(self) -> None:
        self._at_work.set()

    def __exit__(self, *_: object) -> None:
        self._at_work.clear()

    def _look(self) -> None:
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        page = resource.getpagesize()
        while True:
            self._at_work.wait()
            if int(os.pread(statm, 128, 0).split()[1]) * page > self._memory_bytes:
                os._exit(OVER_MEMORY)
            time.sleep(_LOOK_S)


def main() -> None:
    """Answers until stdin ends."""
    die_with_parent()
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    watch = _Watch(settings.memory_bytes)
    _confine(settings)
    # Only now: the threads that Go starts are behind the fence as well.
    from tidelog.engine.helm.sdk import Capabilities, Failure, UnknownLibraryError  # noqa: PLC0415

    capabilities: Capabilities | None = None
    unknown = ""
    try:
        capabilities = Capabilities()
    except UnknownLibraryError as error:
        unknown = str(error)
    decoder = msgspec.msgpack.Decoder(Question)
    for message in messages():
        job = decoder.decode(message).job
        with watch:
            if capabilities is None:
                answer: Answer = Failed(f"this release of helm-python-sdk cannot be used: {unknown}", final=False)
            else:
                capabilities.begin_with(known=job.api_versions is None)
                answer = _answer(job, settings, Failure)
            encoded = msgspec.msgpack.encode(answer)
        write(encoded)


def _confine(settings: Settings) -> None:
    # Some is reserved and not used, so the watch is what counts; this is for what grows between its looks.
    memory = settings.memory_bytes * 2
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    python = {sys.prefix, sys.base_prefix, *(path for path in sys.path if path), str(Path(__file__).resolve().parent)}
    fence = Fence(Reach(read=(*settings.roots, *sorted(python), *_SYSTEM)))
    fence.close_around_me()
    fence.close()


def _answer(job: RenderJob, settings: Settings, failure: type[Exception]) -> Answer:
    try:
        return Rendered(_rendered(job, settings))
    except ChartError as error:
        return Failed(error.message, error.final, error.limit)
    except failure as error:
        return Failed(readable(str(error), job.chart))
    except (MemoryError, RecursionError):
        limit = f"it takes more than {settings.memory_bytes} bytes of memory"
        return Failed(f"rendering {Path(job.chart).name} was ended: {limit}", final=False, limit=limit)
    except OSError as error:
        return Failed(f"the chart {Path(job.chart).name} cannot be read: {error.strerror}", final=False)


def _rendered(job: RenderJob, settings: Settings) -> RenderedChart:
    from tidelog.engine.helm.sdk import Chart  # noqa: PLC0415 - see `main`

    archive = None if Path(job.chart).is_dir() else Path(job.chart).read_bytes()
    read = archive if archive is None or not job.skip_schema else without_schema(archive)
    with Chart.load(job.chart) if read is None else Chart.of_archive(read) as chart:
        metadata = chart.told("metadata")
        require_installable(metadata, job.kube_version)
        missing = without_their_charts(metadata, chart.told("dependencies"))
        templates = chart.told("templates")
        files = chart.render(job.values.decode(), _options(job))
        size = sum(map(len, files.values()))
        if size > settings.output_bytes:
            limit = f"it writes more than {settings.output_bytes} bytes"
            raise ChartError(f"rendering {Path(job.chart).name} was ended: {limit}", final=False, limit=limit)
        processed = chart.told("metadata")
        notes = _take_notes(files, processed["name"])
        manifests, hooks = sorted_manifests(files)
        contents = unpacked(job.chart, archive) if job.with_record else {}
        return RenderedChart(
            metadata=processed,
            manifests=manifests,
            hooks=hooks,
            crds=tuple(Crd(crd["filename"], crd["data"]) for crd in chart.told("crds")),
            notes=notes,
            warnings=missing,
            impure=impure_functions(templates),
            record=chart_record(processed, chart, contents) if job.with_record else b"",
        )


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


def _take_notes(files: dict[str, str], name: str) -> str:
    """The chart's own notes; those of all charts leave `files`, as they are no manifests."""
    notes = files.get(f"{name}/templates/{_NOTES}", "")
    for path in [path for path in files if path.endswith(_NOTES)]:
        del files[path]
    return notes


if __name__ == "__main__":
    main()
