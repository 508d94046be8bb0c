"""What is said between the engine and the process that renders charts, in MessagePack."""

from typing import Final

import msgspec

from tidelog.engine.helm.spec import RenderedChart, RenderJob

FRAME_MAX: Final = 256 * 1024 * 1024
OVER_MEMORY: Final = 87
"""The exit code of a process that saw itself grow beyond its limit."""
GO_FATAL: Final = 2
"""The exit code of Go's own runtime, which has no other way to say that it gets no more memory."""


class Settings(msgspec.Struct, frozen=True):
    """What a rendering process is started with."""

    memory_bytes: int
    output_bytes: int
    roots: tuple[str, ...]
    """Directories that charts may lie below."""
    lookup_port: int = 0
    """Of the proxy on loopback that answers `lookup`: the one port that the process may connect to; 0 for none."""
    dns: bool = False
    """Whether templates may look names up; then the process may connect to servers of names too."""


class Question(msgspec.Struct, frozen=True, tag="render"):
    """Render a chart."""

    job: RenderJob
    token: str = ""
    """What the proxy knows this job by; empty where `lookup` answers with nothing."""


class Rendered(msgspec.Struct, frozen=True, tag="rendered"):
    """It was rendered."""

    chart: RenderedChart
    loads: int = 0
    """Charts that were read and parsed for it; none where that was still in memory."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not be rendered."""

    message: str
    final: bool = True
    limit: str = ""
    loads: int = 0


Answer = Rendered | Failed
