"""`tidelog cluster`: the embedded cluster, alone."""

import signal
from pathlib import Path

import anyio
import click

from tidelog.engine.cli.groups import Group
from tidelog.engine.cli.values import DURATION
from tidelog.engine.kinds.durations import Duration

KUBECONFIG = "tidelog-cluster.kubeconfig"


@click.group(cls=Group)
def cluster() -> None:
    """A Kubernetes API in one process, to try things: it runs nothing, and is not for production."""


@cluster.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On loopback.  [default: any that is free]")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    default=KUBECONFIG,
    show_default=True,
    help="Write there how it is reached.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep its objects in that directory.  [default: forget them at the end]",
)
@click.option(
    "--ready-after", type=DURATION, default="1s", show_default=True, help="How long workloads take to be ready."
)
def up(port: int, kubeconfig: Path, store: Path | None, ready_after: Duration) -> None:
    """Serve an embedded cluster until Ctrl-C.

    Deployments and their like get Pods that become ready after a while, though nothing runs. The annotation
    tidelog.dev/stand-in on a Pod (template), a PersistentVolumeClaim or a Service has them fail: ImagePullBackOff,
    CrashLoopBackOff, QuotaExceeded or NeverReady.
    """
    anyio.run(_up, port, kubeconfig.absolute(), store, ready_after.seconds)


async def _up(port: int, kubeconfig: Path, store: Path | None, ready_s: float) -> None:
    from tidelog.engine.cli.embedded import embedded_cluster

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with embedded_cluster(store, port=port, kubeconfig=kubeconfig, ready_s=ready_s) as served:
            click.echo(f"The cluster is up at {served.address}. Ctrl-C ends it.")
            click.echo(f"    export KUBECONFIG={kubeconfig}")
            click.echo("    kubectl get namespaces")
            await anext(signals)
