"""The reconciliation of one target, of whatever kind."""

from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.kustomization import KustomizationPass
from tidelog.engine.runtime.passes.releases.release import HelmReleasePass
from tidelog.engine.runtime.passes.target import TargetPass
from tidelog.engine.runtime.run import Removed, StageError, Stop
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.watching.declared import DeclaredTarget, is_kustomization, is_release
from tidelog.events.names import StreamName
from tidelog.storage.artifacts.errors import ObjectMissingError
from tidelog.storage.errors import ForgottenError


async def reconcile_target(engine: Engine, stream: StreamName, trigger: Trigger) -> float | None:
    """Makes one pass over a target; returns in how many seconds the next is due, or None to wait for an event."""
    declared = engine.declared.target(stream)
    if declared is None:
        return None
    engine.wait_no_more(stream)
    run = _pass_over(engine, declared, trigger)
    try:
        return await run.reconcile()
    except Stop as stop:
        return stop.again_s
    except Removed:
        return None
    except ForgottenError:
        return 0.0  # a key was destroyed in the midst of the pass: the next has a new one
    except StageError as error:
        return await run.failed(error)
    except ObjectMissingError as error:
        return await run.failed(run.lost(error))
    finally:
        engine.activity.end(stream)
        engine.status.answered(stream, declared.requested_at)
        engine.status.mark(stream)


def _pass_over(engine: Engine, declared: DeclaredTarget, trigger: Trigger) -> TargetPass:
    if is_kustomization(declared):
        return KustomizationPass(engine, declared, trigger)
    if is_release(declared):
        return HelmReleasePass(engine, declared, trigger)
    raise TypeError(f"{declared.key.shown} is no target")
