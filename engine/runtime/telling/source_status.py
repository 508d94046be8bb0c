"""What a source says of itself, derived from the log (Flux contract 2.1)."""

import msgspec

from tidelog.engine.kinds import statuses
from tidelog.engine.kinds.conditions import Observed
from tidelog.engine.kinds.externalartifact import ExternalArtifactSpec, ExternalArtifactStatus
from tidelog.engine.kinds.meta import Artifact
from tidelog.engine.kinds.registry import FetchedStatus
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.common import PROGRESS_AFTER_S, timestamp
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.events.projections import Standing


def source_status(engine: Engine, declared: DeclaredSource, standing: Standing) -> FetchedStatus:
    """The status of a source that the engine fetches itself."""
    before, spec = declared.status, declared.spec
    if isinstance(before, ExternalArtifactStatus) or isinstance(spec, ExternalArtifactSpec):
        raise TypeError(f"the status of {declared.key.shown} is another controller's")
    if declared.suspended:
        return before
    observed = Observed(declared.generation, timestamp(standing.since or engine.now()))
    artifact = _artifact(engine, declared, standing) or before.artifact
    status = msgspec.structs.replace(before, artifact=artifact)
    running = engine.activity.of(declared.stream)
    slow = running is not None and running[2] >= PROGRESS_AFTER_S
    now = Observed(declared.generation, timestamp(engine.now()))
    if running is not None and slow and running[1] and artifact is not None and running[1] != artifact.revision:
        return statuses.source_outdated(status, running[1], observed=now)
    if standing.ready == "True" and artifact is not None:
        status = statuses.source_stored(
            status, artifact, spec, observed=observed, chart=standing.chart, source=standing.source or ""
        )
        return msgspec.structs.replace(status, observed_generation=standing.observed)
    if slow:
        return statuses.source_progressing(status, statuses.SOURCE_IN_PROGRESS, observed=now)
    if standing.ready != "False":
        return status
    if standing.stalled:
        return statuses.source_stalled(status, standing.reason, standing.message, observed=observed)
    return statuses.source_failed(status, standing.reason, standing.message, observed=observed)


def _artifact(engine: Engine, declared: DeclaredSource, standing: Standing) -> Artifact | None:
    row = engine.memory.desired.get(declared.stream)
    if row is None or row.artifact is None or row.revision is None or standing.fetched is None:
        return None
    path = engine.artifact_path(declared.key, row.revision, standing.chart)
    return Artifact(
        path=path,
        url=engine.artifact_url(path),
        revision=row.revision,
        digest=row.artifact,
        last_update_time=timestamp(standing.fetched),
        size=standing.size or None,
        metadata={each.name: each.value for each in standing.annotations},
    )
