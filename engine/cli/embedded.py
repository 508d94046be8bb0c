"""The embedded cluster from the command line: kept in a directory or nowhere, served on loopback."""

import errno
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio.to_thread
import click
from msgspec import Struct

from tidelog.engine.cluster.embedded.certificates import loopback
from tidelog.engine.cluster.embedded.cluster import ADMIN, EmbeddedCluster, open_embedded
from tidelog.engine.cluster.embedded.keeper import keeping, read_kept
from tidelog.engine.cluster.embedded.standins import Pace
from tidelog.engine.cluster.embedded.store import Store
from tidelog.engine.cluster.kubeconfig import Access, User
from tidelog.engine.cluster.kubeconfig_out import write_kubeconfig
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.http.embedded_cluster import HOST, serving
from tidelog.storage.errors import StoreNotFoundError


class Served(Struct, frozen=True):
    """A cluster that is up."""

    cluster: EmbeddedCluster
    address: str


@asynccontextmanager
async def copy_of_kept(directory: Path) -> AsyncIterator[EmbeddedCluster]:
    """A copy of the cluster that is kept in a directory, which nobody else sees, while the block lasts.

    Raises:
        StoreError: when the objects cannot be read.
    """
    try:
        store = await read_kept(directory)
    except StoreNotFoundError:
        why = "`tidelog run --cluster embedded` makes one"
        raise click.UsageError(f"no embedded cluster is kept in {directory}: {why}") from None
    async with Evaluator() as judge, open_embedded(judge, store) as cluster:
        yield cluster


@asynccontextmanager
async def embedded_cluster(
    directory: Path | None, *, port: int = 0, kubeconfig: Path | None = None, ready_s: float = 1.0
) -> AsyncIterator[Served]:
    """A cluster that is up while the block lasts.

    Args:
        directory: where its objects are kept; None to forget them at the end.
        port: on loopback; 0 for any that is free.
        kubeconfig: a file to be written, by which it is reached.
        ready_s: how long its workloads take to be ready.

    Raises:
        StoreError: when the objects cannot be read.
        OSError: when the port may not be listened on, or the file cannot be written.
        click.UsageError: when the port is taken.
    """
    store, token = Store(), secrets.token_urlsafe(32)
    async with AsyncExitStack() as stack:
        if directory is not None:
            await stack.enter_async_context(keeping(store, directory))
        judge = await stack.enter_async_context(Evaluator())
        here = await anyio.to_thread.run_sync(loopback)
        opened = open_embedded(
            judge, store, tokens={token: ADMIN}, authority=here.authority.decode(), pace=Pace(ready_s)
        )
        cluster = await stack.enter_async_context(opened)
        try:
            address = await stack.enter_async_context(serving(cluster.api, port, here.context))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            why = f"port {port} of {HOST} is taken: name another with --port, or none for any that is free"
            raise click.UsageError(why) from None
        if kubeconfig is not None:
            access = Access("the embedded cluster", address, User(token=token), ca=here.authority, embedded=True)
            await anyio.to_thread.run_sync(write_kubeconfig, kubeconfig, access)
        yield Served(cluster, address)
