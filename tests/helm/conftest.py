"""The oracle: the helm command of the release that we render with, built once."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.oracles.helm import oracle as built_oracle
from tests.render.trees import MemoryTrees
from tidelog.engine.helm.pool import ChartRenderer

Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def oracle() -> Path:
    """The program; where it has to be built first, that takes minutes."""
    return built_oracle()


@pytest.fixture
def helm(oracle: Path, tmp_path: Path) -> Run:
    """Runs helm, with nothing of this machine's."""

    def run(*arguments: str, kubeconfig: Path | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
        home = tmp_path / "helm-home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [oracle, "helm", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={"HOME": str(home), "KUBECONFIG": str(kubeconfig or "/nonexistent"), "TZ": "UTC", "PATH": os.defpath},
        )

    return run


@pytest.fixture
async def renderer(tmp_path: Path) -> AsyncIterator[ChartRenderer]:
    async with ChartRenderer([tmp_path], workers=1) as made:
        yield made


def asked(oracle: Path, what: str, lines: Sequence[str]) -> list[str]:
    """The oracle's answers, a line each."""
    ran = subprocess.run(
        [oracle, what], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.removesuffix("\n").split("\n")


@pytest.fixture
def trees() -> MemoryTrees:
    return MemoryTrees()
