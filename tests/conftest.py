"""What every test has: a seed, hypothesis profiles, and a guard against blocking the event loop."""

import os
import platform
import random
import signal
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata, util

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.servers.fixtures import end_servers, kubernetes, namespace, own_servers, report_skipped

__all__ = ["kubernetes", "namespace", "own_servers"]

SOAK = bool(os.environ.get("TIDELOG_SOAK"))
SHOWN = ("anyio", "msgspec", "sqlite-utils", "zstandard", "cryptography", "hypothesis")

# Random on purpose, in CI too (hypothesis would choose its derandomised `ci` profile there): a failure prints
# the blob that reproduces it. No deadline: two workers share two cores with what they start.
settings.register_profile("default", print_blob=True, derandomize=False, deadline=None)
settings.register_profile(
    "soak",
    settings.get_profile("default"),
    max_examples=5_000,
    stateful_step_count=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("soak" if SOAK else "default")

SEED = pytest.StashKey[int]()
ORACLE_SEED = 1
"""Of the tests that hold us to a real server by chance, unless a seed is given or `make soak` looks for new ones."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="the seed of the randomised tests (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    _keep_bytecode()
    _hear_interrupts()
    chosen = config.getoption("--seed")
    if chosen is None:
        # A worker of pytest-xdist takes the seed that the header shows.
        chosen = getattr(config, "workerinput", {}).get("seed", random.SystemRandom().getrandbits(32))
    config.stash[SEED] = chosen
    if os.environ.get("TIDELOG_TEST_INSTALLED"):
        _require_installed()


@pytest.hookimpl(trylast=True)  # of what is left of the list
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the tests that ask for more time than others: begun last, they would be waited for alone.

    Each worker of pytest-xdist is given one part of the list to begin with, so each part has some of them.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if any(mark.name == "timeout" for mark in item.own_markers)]
    ahead = set(long)
    rest = [item for item in items if item not in ahead]
    bounds = [len(rest) * part // workers for part in range(workers + 1)]
    items[:] = [
        item for part in range(workers) for item in (*long[part::workers], *rest[bounds[part] : bounds[part + 1]])
    ]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: pytest.Item) -> None:
    node.workerinput["seed"] = node.config.stash[SEED]  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> list[str]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
    return [
        f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}, {versions}",
        f"seed: {config.stash[SEED]} (again with --seed {config.stash[SEED]})",
        f"seed of what is held to a real server: {_oracle_seed(config)}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report_skipped(terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    end_servers(config)


def _keep_bytecode() -> None:
    """Compiled once, for us and the hundreds of commands and workers that tests start, whoever says not to keep it."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _hear_interrupts() -> None:
    """For the commands that tests interrupt: a shell that starts something in the background has it ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _require_installed() -> None:
    """The tests of the wheel must not find the working tree instead."""
    spec = util.find_spec("tidelog.engine")
    origin = spec.origin if spec else None
    if not origin or not origin.startswith(sys.prefix):
        raise pytest.UsageError(f"TIDELOG_TEST_INSTALLED is set, but tidelog.engine comes from {origin}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run, which the header shows; give it to `random.Random`."""
    return pytestconfig.stash[SEED]


@pytest.fixture(scope="session")
def oracle_seed(pytestconfig: pytest.Config) -> int:
    """As `seed`, but always the same in `make test`: what a new one finds is for `make soak` and who gives it."""
    return _oracle_seed(pytestconfig)


def _oracle_seed(config: pytest.Config) -> int:
    return config.stash[SEED] if SOAK or config.getoption("--seed") is not None else ORACLE_SEED


@pytest.fixture(autouse=True)
def blocking() -> Iterator[BlockBuster]:
    """Fails a test in which Tidelog blocks the event loop; says nothing where no loop runs.

    The test's own code may block. A test that must allow a function asks for this fixture and names it:
    `blocking.functions["os.stat"].can_block_in(...)`.
    """
    with blockbuster_ctx("tidelog") as buster:
        yield buster


@pytest.fixture(scope="session", autouse=True)
def _one_name_per_module() -> Iterator[None]:
    """From the top of the tree `import engine` works, and gives other classes than `tidelog.engine`."""
    yield
    bare = {"engine", "events", "storage"} & sys.modules.keys()
    assert not bare, f"imported without `tidelog.`, or an `__init__.py` stands under tests/: {sorted(bare)}"
