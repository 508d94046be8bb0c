"""`kill -9` of the daemon, whenever it may be: the next one brings everything to the same end, by itself."""

import base64
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from tests.conftest import SOAK
from tests.e2e.planted import found_in
from tests.e2e.world import World, config_map, documents, manifest, written
from tests.servers.faulty_api import Asked, Delay, Fault, faulty_api
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    EngineStarted,
    Rendered,
    RevisionFetched,
)
from tidelog.storage import Query, open_log, verify_store

TARGETS = 30
ROUNDS = 100 if SOAK else 10
KILLED_WITHIN_S = 3.0
"""Of a commit, or of a start, at first; then within what the round before took from its start to its end."""
AGAIN = 0.3
"""How often the next daemon is killed too."""
TIDELOG = Path(sys.executable).with_name("tidelog")
STOPS_WITHIN_S = 120.0 if SOAK else 20.0
SETTLES_WITHIN_S = 600.0 if SOAK else 120.0
"""Some three seconds where the machine is free; hours of rounds share it with others."""


class Expected:
    """What a commit wants of the cluster."""

    def __init__(self, number: int) -> None:
        self.value = str(number)
        # A commit that installs, one that changes, one that prunes, and again.
        self.each = 3 if number % 3 == 2 else 4
        self.secret = f"planted-{number}-{'x' * 16}"

    def names(self) -> set[str]:
        return {f"t{n}-{m}" for n in range(TARGETS) for m in range(self.each)}

    def files(self) -> dict[str, str | bytes]:
        return {f"t{n}/all.yaml": self._target(n) for n in range(TARGETS)}

    def _target(self, n: int) -> str:
        maps = [config_map(f"t{n}-{m}", value=f"v{self.value}") for m in range(self.each)]
        secret = manifest("v1", "Secret", f"s{n}", stringData={"token": self.secret})
        return documents(*maps, secret)


async def is_as(world: World, expected: Expected) -> None:
    """The end state: every target applied, and exactly its objects there, with their values."""
    await world.until_all_applied({f"t{n}" for n in range(TARGETS)}, limit_s=SETTLES_WITHIN_S)
    maps = await world.cluster.list(await world.cluster.kind("v1", "ConfigMap"), namespace=world.namespace)
    values = {item["metadata"]["name"]: item["data"] for item in maps.items if item["metadata"]["name"][0] == "t"}
    assert values == {name: {"value": f"v{expected.value}"} for name in expected.names()}
    secrets = await world.cluster.list(await world.cluster.kind("v1", "Secret"), namespace=world.namespace)
    tokens = {item["metadata"]["name"]: item["data"] for item in secrets.items if item["metadata"]["name"][0] == "s"}
    wanted = {"token": base64.b64encode(expected.secret.encode()).decode()}
    assert tokens == {f"s{n}": wanted for n in range(TARGETS)}


ADDRESSES = {"storage": "", "health": "", "metrics": ""}
"""Where a daemon listens: nowhere."""


@contextmanager
def daemon_process(
    world: World, kubeconfig: Path | None = None, at: Mapping[str, str] = ADDRESSES, options: Sequence[str | Path] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """`tidelog run`, as somebody runs it; killed when the block ends, if it still runs.

    What it writes is added to the file `output` of the test's directory.
    """
    command: list[str | Path] = [TIDELOG, "run", "--kubeconfig", kubeconfig or world.kubeconfig, "--store", world.store]
    command += ["--runtime-namespace", world.namespace, "--watch-all-namespaces=false", *options]
    # The Lease of a daemon that was killed has to run out first: that would be all that is waited for here.
    command += ["--enable-leader-election=false", *(f"--{name}-addr={address}" for name, address in at.items())]
    with (world.directory / "output").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def killed_somewhen(world: World, chance: random.Random, within_s: float) -> AsyncIterator[None]:
    """A daemon that is killed at some moment after the block."""
    with daemon_process(world) as process:
        yield
        await anyio.sleep(chance.uniform(0, within_s))
        assert process.poll() is None, (world.directory / "output").read_text()[-2000:]
        process.send_signal(signal.SIGKILL)


async def stopped(process: subprocess.Popen[bytes]) -> int:
    """Asks a daemon to end, as a cluster does; its exit code."""
    process.terminate()
    with anyio.fail_after(STOPS_WITHIN_S):
        return await anyio.to_thread.run_sync(process.wait)


async def log_is_whole(world: World) -> None:
    """No plan applied twice, none left open, nothing wrong in the log, and as many starts as there were."""
    report = await verify_store(world.store)
    assert report.intact, report
    started: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    engines = interrupted = 0
    async with open_log(world.store) as log:
        async for recorded in log.read(Query()):
            event = recorded.event
            engines += isinstance(event, EngineStarted)
            if isinstance(event, ApplyStarted):
                started[event.plan] += 1
            elif isinstance(event, ApplyFinished | ApplyFailed):
                closed[event.plan] += 1
                interrupted += isinstance(event, ApplyFailed) and event.reason == "Interrupted"
    assert engines > ROUNDS
    assert started
    assert max(started.values()) == 1, started.most_common(3)
    assert closed == started
    if SOAK:
        assert interrupted, "of so many, none was killed in the midst of an apply"


@pytest.mark.slow
@pytest.mark.timeout(7200 if SOAK else 900)
async def test_whenever_it_is_killed_the_end_is_the_same(world: World, seed: int) -> None:
    chance = random.Random(seed)
    await world.source()
    for n in range(TARGETS):
        await world.target(f"t{n}", f"./t{n}", targetNamespace=world.namespace, retryInterval="5s")
    within_s = KILLED_WITHIN_S
    for number in range(ROUNDS):
        expected = Expected(number)
        world.commit(expected.files())
        async with killed_somewhen(world, chance, within_s):
            await world.ask()
        while chance.random() < AGAIN:
            async with killed_somewhen(world, chance, within_s):
                pass
        began = anyio.current_time()
        with daemon_process(world) as process:
            await is_as(world, expected)
            within_s = max(KILLED_WITHIN_S, anyio.current_time() - began)
            # The one before may have done it all: this one answers before it is told to end.
            await world.until_answered(await world.ask(), limit_s=SETTLES_WITHIN_S)
            assert await stopped(process) == 0
    await log_is_whole(world)
    output = (world.directory / "output").read_bytes()
    for number in range(ROUNDS):
        value = Expected(number).secret.encode()
        assert await anyio.to_thread.run_sync(found_in, world.store, value) == []
        assert value not in output
        assert base64.b64encode(value) not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals",
    [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]],
    ids=["killed", "told to end", "told by Ctrl-C and by who started it"],
)
async def test_ended_in_the_midst_of_an_apply_it_transfers_and_renders_nothing_again(
    world: World, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    """Whatever the API server does: here it never answers the third write."""
    reached = anyio.Event()

    def fault(asked: Asked) -> Fault:
        if not asked.writes or not asked.path.endswith("/configmaps/c"):
            return None
        reached.set()
        return Delay(3600)

    names = "abcde"
    world.commit({"app/all.yaml": documents(*(config_map(name, n="1") for name in names))})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api:
        api.fault = fault
        with daemon_process(world, api.kubeconfig) as process:
            with anyio.fail_after(STOPS_WITHIN_S):
                await reached.wait()
            began = anyio.current_time()
            for signal_ in signals:
                process.send_signal(signal_)
                await anyio.sleep(0.05)
            with anyio.fail_after(STOPS_WITHIN_S):
                code = await anyio.to_thread.run_sync(process.wait)
            assert code == (-signal.SIGKILL if signal.SIGKILL in signals else 0), (tmp_path / "output").read_text()
            assert anyio.current_time() - began < 5, "it ends in seconds"
    transfers, before = world.git.transfers, len(await world.requests())
    async with world.daemon() as running:
        await world.until_applied("app")
        await running.idle()
        assert running.events(Rendered, RevisionFetched) == []
    assert world.git.transfers == transfers
    requests = (await world.requests())[before:]
    wrote = [name for _, resource, name in written(requests) if resource == "configmaps"]
    assert wrote == list("cde"), "what was applied is not applied again"
    plans: Counter[str] = Counter()
    async with open_log(world.store) as log:
        async for recorded in log.read(Query(types=("ApplyStarted",))):
            assert isinstance(recorded.event, ApplyStarted)
            plans[recorded.event.plan] += 1
    assert list(plans.values()) == [1, 1], "the plan that was under way is never taken up again: another is made"
