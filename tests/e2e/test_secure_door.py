"""The door for who comes from elsewhere, with tokens and Roles that a real API server knows."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.to_thread
import pytest
import trustme

from tests.e2e.test_prune import app_of, held_plan, many
from tests.e2e.world import LIMIT_S, Running, World, failed
from tests.http.test_server import free_address
from tests.servers.fixtures import new_namespace
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.http.server import serving
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.events.vocabulary import Marked, PlanApproved, PlanRejected, Suspended

RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
def elsewhere(kubernetes: Servers) -> Iterator[str]:
    """Another namespace."""
    with new_namespace(kubernetes) as name:
        yield name


class Door:
    """The HTTPS door of a daemon, as those who come to it see it."""

    def __init__(self, world: World, running: Running, address: str, tls: ssl.SSLContext) -> None:
        self.world = world
        self.running = running
        self._address = f"https://{address}/v1/requests"
        self._tls = tls

    async def ask(self, token: str, verb: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        body = {"verb": verb, "why": "a test wants it", **fields}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._address, json=body, headers=headers, ssl=self._tls) as answer,
        ):
            return answer.status, await answer.json()

    async def until_allowed(self, token: str, verb: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """Asks until the authorizer has learnt of the Role; what the daemon then makes of it."""
        with anyio.fail_after(LIMIT_S):
            while True:
                status, answer = await self.ask(token, verb, **fields)
                if status != 403:
                    return status, answer
                await anyio.sleep(0.02)

    async def account(self, name: str, namespace: str, *, resource: str, verbs: list[str]) -> str:
        """A ServiceAccount with a Role of its namespace; returns a token of it."""
        await self.world.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        )
        rule = {"apiGroups": ["tidelog.dev"], "resources": [resource], "verbs": verbs}
        metadata = {"name": name, "namespace": namespace}
        await self.world.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]})
        await self.world.apply(
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
        )
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = await anyio.to_thread.run_sync(self.world.servers.request, "POST", path, asked)
        assert answer.status == 201, answer
        token: str = answer.body["status"]["token"]
        return token


@asynccontextmanager
async def door_of(world: World, directory: Path) -> AsyncIterator[Door]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = directory / "door.pem", directory / "door.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    address = free_address()
    settings: dict[str, Any] = {"door_addr": address, "door_cert_file": str(certificate), "door_key_file": str(key)}
    async with (
        world.daemon(webhook_addr="", **settings) as running,
        serving(running.daemon, Metrics(), world.store),
    ):
        yield Door(world, running, address, tls)


@pytest.fixture
async def door(world: World, tmp_path: Path) -> AsyncIterator[Door]:
    async with door_of(world, tmp_path) as door:
        yield door


async def held(door: Door) -> str:
    """A plan that waits for approval."""
    await app_of(door.world, many(10))
    await door.world.push({"app/all.yaml": many(2)})
    return held_plan(await door.world.until_target("app", failed("PlanHeld")))


async def test_who_may_approve_in_the_namespace_of_a_plan_approves_it_by_name(door: Door) -> None:
    plan = await held(door)
    token = await door.account("ada", door.world.namespace, resource="plans", verbs=["approve"])
    assert (await door.until_allowed(token, "approve", plan=plan))[0] == 200
    await door.world.until_applied("app")
    assert await door.world.data("item-9") is None
    (told,) = [one for one in door.running.recorded if isinstance(one.event, PlanApproved)]
    assert told.envelope.actor.name == f"system:serviceaccount:{door.world.namespace}:ada"
    assert told.envelope.actor.proof is not None
    assert told.envelope.actor.proof.kind == "authenticated"


async def test_who_may_do_one_thing_may_do_no_other(door: Door) -> None:
    plan = await held(door)
    token = await door.account("ada", door.world.namespace, resource="targets", verbs=["suspend"])
    target = door.running.target("app")
    assert (await door.until_allowed(token, "suspend", target=target))[0] == 200
    for verb, fields in (("resume", {"target": target}), ("approve", {"plan": plan}), ("reject", {"plan": plan})):
        status, answer = await door.ask(token, verb, **fields)
        assert (status, "a Role that allows it is missing" in answer["error"]) == (403, True), verb
    assert door.running.events(Suspended)
    assert not door.running.events(PlanApproved, PlanRejected)


@pytest.mark.parametrize("token", ["", "made-up", "a.b.c"])
async def test_who_is_not_known_is_turned_away(door: Door, token: str) -> None:
    status, _ = await door.ask(token, "mark", label="mine")
    assert status == 401
    assert not door.running.events(Marked)


async def test_a_right_in_one_namespace_is_none_over_the_plans_and_targets_of_another(
    door: Door, elsewhere: str
) -> None:
    """Whatever target is named beside the plan: what is acted on is what has to be allowed."""
    plan = await held(door)
    mallory = await door.account("mallory", elsewhere, resource="*", verbs=["*"])
    # Once the authorizer knows the Role, the request gets as far as being refused for what it is.
    mine = f"{door.running.daemon.engine.cluster_alias}/core/Secret/{elsewhere}/x"
    assert (await door.until_allowed(mallory, "forget", target=mine))[0] == 400
    own = door.running.target("app").replace(f"/{door.world.namespace}/", f"/{elsewhere}/")
    assert own != door.running.target("app")
    for verb, fields in (
        ("approve", {"plan": plan}),
        ("approve", {"plan": plan, "target": own}),
        ("reject", {"plan": plan, "target": own}),
        ("suspend", {"target": door.running.target("app")}),
        ("suspend", {"target": door.running.target("app"), "plan": "plan-of-mine"}),
        ("mark", {"label": "mine"}),
        ("mark", {"label": "mine", "target": own}),
        ("forget", {"target": mine.replace(elsewhere, door.world.namespace)}),
    ):
        status, answer = await door.ask(mallory, verb, **fields)
        assert status == 403, (verb, fields, answer)
    assert not door.running.events(PlanApproved, PlanRejected, Suspended, Marked)
    assert await door.world.data("item-9") == {"n": "9"}


async def test_a_target_beside_a_plan_that_is_not_its_own_is_refused(door: Door) -> None:
    plan = await held(door)
    token = await door.account("ada", door.world.namespace, resource="plans", verbs=["approve", "reject"])
    other = door.running.target("another")
    status, answer = await door.until_allowed(token, "approve", plan=plan, target=other)
    assert (status, "name that, or no target" in answer["error"]) == (400, True)
    assert not door.running.events(PlanApproved)
    own = door.running.target("app")
    assert (await door.until_allowed(token, "reject", plan=plan, target=own))[0] == 200
