"""The actions on a release, by name."""

from tidelog.engine.runtime.passes.releases.existing import ExistingActions
from tidelog.engine.runtime.passes.releases.making import MakingActions
from tidelog.events.vocabulary import ReleaseActionEnded, ReleaseActionStarted


class ReleaseActions(MakingActions, ExistingActions):
    """All of them."""

    async def _act_on(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        match started.action:
            case "install" | "upgrade" | "rollback" as making:
                return await self._release(started, making)
            case "test":
                return await self._test(started)
            case "uninstall" | "uninstall-remediation":
                return await self._uninstall(started)
            case "unlock":
                return await self._unlock(started)
