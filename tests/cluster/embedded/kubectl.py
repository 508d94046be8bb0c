"""kubectl, as a test runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 30


class Said(NamedTuple):
    """How kubectl ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """A table without its ages."""
        lines = self.out.splitlines()
        at = lines[0].find("AGE")
        return [(line if at < 0 else line[:at] + re.sub(r"^\S+", "", line[at:])).split() for line in lines]


class Kubectl:
    """kubectl, with a kubeconfig and a namespace."""

    def __init__(
        self, home: Path, kubeconfig: Path, namespace: str = "", *, runs_pods: bool = True, limit_s: float = LIMIT_S
    ) -> None:
        self.home, self.kubeconfig, self.namespace = home, kubeconfig, namespace
        self.runs_pods, self.limit_s = runs_pods, limit_s

    def command(self, *arguments: str) -> list[str]:
        where = ["--namespace", self.namespace] if self.namespace else []
        return [str(Path(sys.executable).with_name("kubectl")), *where, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        mine = {"HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig), "TZ": "UTC"}
        return {"PATH": os.environ["PATH"], **mine, **more}

    def __call__(self, *arguments: str, code: int | None = 0, given: str = "", **environment: str) -> Said:
        """Runs it to its end; `code` is the one that it has to end with, None for any."""
        done = subprocess.run(
            self.command(*arguments),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=self.limit_s,
            env=self.environment(**environment),
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert code is None or said.code == code, said
        return said
