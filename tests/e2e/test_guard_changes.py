"""A plan that waits for approval, and a guard that is told something else meanwhile."""

from tests.e2e.test_prune import app_of, many
from tests.e2e.world import World, failed
from tidelog.engine.verify.guard import Guard
from tidelog.events.vocabulary import PlanApproved, RunEnded


async def test_a_held_plan_is_let_go_of_when_the_guard_is_switched_off(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        await world.until_target("app", failed("PlanHeld"))
        await running.idle()
    async with world.daemon(prune_guard=Guard(enabled=False)) as running:
        await world.until_applied("app")
        outcomes = [event.outcome for event in running.events(RunEnded) if isinstance(event, RunEnded)]
        assert "superseded" in outcomes, "nobody approved the plan that was held: another was made"
        assert not running.events(PlanApproved)
    assert await world.data("item-9") is None
