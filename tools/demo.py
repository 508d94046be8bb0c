"""`make demo`: Tidelog at work, in your terminal.

It starts an embedded cluster on loopback, makes a small Git repository and has Tidelog keep the cluster as it says.
Every line that begins with `$` is a command that you can run yourself.
"""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

ROOT = Path(__file__).resolve().parent.parent
TIDELOG = Path(sys.executable).with_name("tidelog")
READY_TIMEOUT_S = 120.0
INTERVAL = "2s"
COMMIT = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{32}\b")

REPOSITORY = {
    "clusters/demo/infrastructure.yaml": """\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: infrastructure, namespace: flux-system}
spec:
  interval: 10m
  path: ./infrastructure
  prune: true
  wait: true
  sourceRef: {kind: GitRepository, name: flux-system}
""",
    "clusters/demo/shop.yaml": """\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: shop, namespace: flux-system}
spec:
  interval: 10m
  path: ./apps/shop
  prune: true
  wait: true
  dependsOn: [{name: infrastructure}]
  postBuild: {substitute: {greeting: hello}}
  sourceRef: {kind: GitRepository, name: flux-system}
""",
    "infrastructure/namespace.yaml": """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
""",
    # A kind, and an object of it, in one commit.
    "infrastructure/coupons.yaml": """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: coupons.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {kind: Coupon, plural: coupons, singular: coupon}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {percent: {type: integer, maximum: 90}}}
---
apiVersion: shop.example.com/v1
kind: Coupon
metadata: {name: welcome, namespace: shop}
spec: {percent: 10}
""",
    "apps/shop/shop.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "ghcr.io/stefanprodan/podinfo:6.8.0", ports: [{containerPort: 9898}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 9898}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop}
data: {greeting: "${greeting}, world"}
---
apiVersion: v1
kind: Secret
metadata: {name: web, namespace: shop}
stringData: {password: correct-horse-battery-staple}
""",
}


class Demo:
    """The demonstration, step by step."""

    def __init__(self, directory: Path) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
        self.directory = directory
        self.repository = directory / "repository"
        self.store = directory / "store"
        self.kubeconfig = directory / "kubeconfig"
        self.environment = os.environ | {
            "TIDELOG_STORE": str(self.store),
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{TIDELOG.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def say(self, text: str) -> None:
        """A sentence between commands."""
        self.console.print(text, style="bold cyan")

    def chapter(self, title: str) -> None:
        """A new step."""
        self.console.print()
        self.console.print(Rule(title, align="left", style="cyan"))

    def run(self, command: str, *, fails: bool = False, into: str | None = None) -> str:
        """Shows a command, runs it, and shows what it says, or writes that into a file; `fails`: it may end with 1."""
        # Not broken into lines, which could not be copied.
        shown = f"$ {command}" + (f" > {into}" if into else "")
        self.console.print(shown, style="bold", markup=False, soft_wrap=True)
        colour = ["env", "FORCE_COLOR=1", f"COLUMNS={self.console.width}"] if sys.stdout.isatty() else []
        done = subprocess.run(
            [*colour, *shlex.split(command)],
            env=self.environment,
            cwd=self.directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=READY_TIMEOUT_S,
            check=False,
        )
        if into:
            (self.directory / into).write_text(done.stdout)
        else:
            print(done.stdout, end="" if done.stdout.endswith("\n") or not done.stdout else "\n", flush=True)
        if done.returncode not in ((0, 1) if fails else (0,)):
            raise SystemExit(f"{command} ended with {done.returncode}")
        return done.stdout

    def write(self, files: dict[str, str]) -> None:
        """Writes files of the repository."""
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def git(self, *arguments: str) -> str:
        """What Git says of the repository."""
        command = ["git", "-C", str(self.repository), *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout.strip()

    def commit(self, message: str) -> None:
        """Commits what was written."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.console.print(f"Ada commits: {message}", style="bold green", markup=False)

    def begin(self) -> None:
        """The first commit."""
        self.repository.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        # Whoever goes on from here may have told Git nothing of themselves.
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.com")
        self.write(REPOSITORY)
        self.commit("Open the shop")

    def states(self) -> dict[str, dict[str, str]]:
        """How all sources and targets stand, as `tidelog get` says."""
        done = subprocess.run(
            [TIDELOG, "get", "all", "-o", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        rows: list[dict[str, str]] = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
        return {f"{row['kind']}/{row['name']}": row for row in rows}

    def wait_for_commit(self, name: str) -> None:
        """Waits until a Kustomization is ready at the newest commit, and shows meanwhile how all of them get there."""
        head = self.git("rev-parse", "HEAD")
        deadline = time.monotonic() + READY_TIMEOUT_S
        shown = self.states()
        while time.monotonic() < deadline:
            states = self.states()
            for one, row in states.items():
                if shown.get(one) != row:
                    mark = "✔" if row["ready"] == "True" else "◎"
                    message = COMMIT.sub(r"\1", row["message"])
                    self.console.print(f"{mark} {one}: {message}", style="dim", markup=False)
            shown = states
            now = states.get(f"Kustomization/{name}", {})
            if head in str(now.get("revision")) and now.get("ready") == "True":
                return
            time.sleep(0.2)
        raise SystemExit(f"{name} did not become ready: see {self.directory / 'daemon.log'}")

    def wait_for(self, command: str, wanted: str) -> None:
        """Waits until a command prints something."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            done = subprocess.run(
                shlex.split(command), env=self.environment, capture_output=True, text=True, timeout=60, check=False
            )
            if wanted in done.stdout:
                return
            time.sleep(0.1)
        raise SystemExit(f"{command} did not print {wanted}")

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """`tidelog run`, in the background."""
        arguments = ["--repo", str(self.repository), "--path", "clusters/demo", "--interval", INTERVAL]
        quiet = ["--storage-addr", "127.0.0.1:0", "--health-addr", "", "--metrics-addr", ""]
        self.console.print(f"$ tidelog run {' '.join(arguments)} &", style="bold", markup=False)
        with (self.directory / "daemon.log").open("wb") as log:
            process = subprocess.Popen(
                [TIDELOG, "run", *arguments, *quiet], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=30)

    def tell(self, *, once: bool) -> None:
        """All of it; then, unless it is for `once`, the cluster is the user's until Ctrl-C."""
        self.chapter("1. A cluster becomes what a Git repository says")
        self.begin()
        with self.daemon():
            self.wait_for_commit("shop")
            self.run("tidelog get all")
            self.run("tidelog tree kustomization flux-system")
            first = self._position()
            self.say("What is signed now and kept elsewhere will prove what was there:")
            self.run("tidelog log checkpoint", into="kept-elsewhere")

            self.chapter("2. A change: seen before it is made, and applied")
            changed = REPOSITORY["apps/shop/shop.yaml"].replace("podinfo:6.8.0", "podinfo:6.9.0")
            self.write({"apps/shop/shop.yaml": changed})
            self.say("Ada has changed a file, and asks what would come of it:")
            self.run(f"tidelog plan kustomization/shop --path {self.repository}", fails=True)
            self.commit("Sell with podinfo 6.9.0")
            self.wait_for_commit("shop")
            plans = self.run("tidelog plans kustomization/shop")
            self.run(f"tidelog show-plan {next(word for word in plans.split() if word.startswith('plan-'))}")
            self.run("tidelog trace deployment/web -n shop")

            self.chapter("3. Somebody changes the cluster by hand")
            self.run("kubectl -n shop scale deployment web --replicas=3")
            replicas = "kubectl -n shop get deployment web -o jsonpath={.spec.replicas}"
            self.wait_for(replicas, "2")
            self.run("tidelog events --for deployment/web -n shop")

            self.chapter("4. Back to how it was at first: planned, shown, applied, and remembered")
            self.run(f"tidelog reapply kustomization/shop --at {first} --why 'podinfo 6.9.0 is too slow' --yes")
            self.run("kubectl -n shop get deployment web -o jsonpath={.spec.template.spec.containers[0].image}")
            self.run("tidelog explain kustomization/shop")

            self.chapter("5. Nothing is forgotten, and all of it can be proved")
            self.run("tidelog history kustomization/shop")
            self.run(f"tidelog get all --at {first}")
            self.run("tidelog log verify --checkpoint kept-elsewhere")
            if not once:
                self.goodbye()
                while True:  # `signal.pause` would go on for ever after a signal that came just before it
                    time.sleep(0.2)

    def _position(self) -> int:
        done = subprocess.run(
            [TIDELOG, "log", "stat", "-o", "json"],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return int(json.loads(done.stdout)["events"])

    def goodbye(self) -> None:
        """What to try next."""
        self.chapter("Your turn")
        self.say("The cluster and the daemon go on until you press Ctrl-C. In another terminal:")
        for name in ("TIDELOG_STORE", "KUBECONFIG"):
            self.console.print(f"export {name}={self.environment[name]}", markup=False, soft_wrap=True)
        self.console.print(f"export PATH={TIDELOG.parent}:$PATH", markup=False, soft_wrap=True)
        self.say("Commit something, break something, and ask:")
        edit = "sed -i 's/replicas: 2/replicas: 3/' apps/shop/shop.yaml"
        change = f"cd {self.repository} && {edit} && git commit -am 'Sell more'"
        for command in (change, "tidelog events -w", "tidelog explain kustomization/shop", "kubectl -n shop get all"):
            self.console.print(command, markup=False, soft_wrap=True)


@contextmanager
def cluster(demo: Demo) -> Iterator[None]:
    """`tidelog cluster up`, in the background."""
    with (demo.directory / "cluster.log").open("wb") as log:
        process = subprocess.Popen(
            [TIDELOG, "cluster", "up", "--kubeconfig", demo.kubeconfig], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not demo.kubeconfig.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the cluster did not start:\n{(demo.directory / 'cluster.log').read_text()}")
                time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def main() -> None:
    """Shows Tidelog at work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when all has been shown")
    once = parser.parse_args().once
    # However it is told to end, also by a terminal that is closed, what was started ends with it.
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tidelog-demo-") as directory:
        demo = Demo(Path(directory))
        demo.say("Starting a cluster: a Kubernetes API in one process, that runs nothing …")
        with cluster(demo):
            try:
                demo.tell(once=once)
            except KeyboardInterrupt:
                demo.say("\nEverything that was started is ended, and removed.")


if __name__ == "__main__":
    main()
