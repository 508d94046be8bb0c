"""The embedded cluster in the place of the real servers: served by a thread of this process, seen as `Servers` are."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.servers.kubernetes_servers import ADMIN, API_SERVER, Json, Servers, kubeconfig
from tidelog.engine.cluster.embedded.access import MASTERS
from tidelog.engine.cluster.embedded.audit import Audit, Audited
from tidelog.engine.cluster.embedded.certificates import loopback
from tidelog.engine.cluster.embedded.cluster import EmbeddedCluster, open_embedded
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.standins import Pace
from tidelog.engine.cluster.embedded.store import Store
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.http.embedded_cluster import serving

ENTRIES_MAX = 1_000_000
"""Requests of a whole run."""


class EmbeddedServers(Servers):
    """An embedded cluster that may be stopped and started, as whoever uses it sees it."""

    def __init__(self, directory: Path, up: "_Up") -> None:
        """Writes the administrator's kubeconfig to `directory`."""
        super().__init__(directory, up.url, up.token_of(User(ADMIN, (MASTERS,))))
        object.__setattr__(self, "_up", up)
        self.authority.certificate_file.write_bytes(up.tls.authority)
        self._write(self.kubeconfig, ADMIN, self.token)

    @property
    def up(self) -> "_Up":
        """What runs."""
        up: _Up = self._up  # type: ignore[attr-defined]
        return up

    def kubeconfig_of(self, user: str, groups: Sequence[str] = (), **certificate: timedelta) -> Path:
        """Of somebody who shows a token: there are no client certificates."""
        assert not certificate, "the embedded cluster knows no certificates of clients"
        token = self.up.token_of(User(user, tuple(groups)))
        path = self.directory / f"kubeconfig-{token[:12]}"
        self._write(path, user, token)
        return path

    def audited_bytes(self) -> int:
        """Nothing: its audit is no file."""
        return 0

    def has_audited(self, text: str, since: int = 0) -> bool:
        """Whether some request was about a name."""
        return any(text == entry.asked.name for entry in reversed(self.up.entries()))

    def audited(self, user: str) -> list[Json]:
        """As audit logs have them, but for watches."""
        return [
            _event(entry)
            for entry in self.up.entries()
            if user == (entry.asked.impersonator or entry.asked.user) and entry.asked.verb != "watch"
        ]

    def stop(self, name: str = API_SERVER) -> None:
        """Ends it; its objects are kept. There is no other server behind it."""
        if name == API_SERVER:
            self.up.end()

    kill = stop

    def start(self, name: str = API_SERVER) -> None:
        """Starts it again, at the same address."""
        if name == API_SERVER:
            self.up.start()

    def forget(self) -> None:
        """Forgets how its objects came to be as they are: watches from before begin anew, and lists that go on."""
        self.up.forget()

    def _write(self, path: Path, user: str, token: str) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(kubeconfig(self.url, self.authority, {user: {"token": token}})))


def _event(entry: Audited) -> Json:
    """As a line of an audit log."""
    asked = entry.asked
    where = {
        "resource": asked.resource,
        "namespace": asked.namespace,
        "name": asked.name,
        "subresource": asked.subresource,
        "apiGroup": asked.group,
    }
    query = {**asked.query, **({"dryRun": "All"} if asked.dry_run else {})}  # of a deletion, its body says so
    event: Json = {
        "verb": asked.verb,
        "requestURI": f"{asked.path}?{urlencode(query)}" if query else asked.path,
        "user": {"username": asked.impersonator or asked.user},
        "objectRef": {key: value for key, value in where.items() if value},
        "responseStatus": {"code": entry.code},
        "stage": "ResponseComplete",
    }
    return event | ({"impersonatedUser": {"username": asked.user}} if asked.impersonator else {})


class _Up:
    """The cluster in its thread. Only `entries`, `token_of`, `forget`, `start` and `end` are called from others."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._store = Store()
        self._users: dict[str, User] = {}
        self._audits: list[Audit] = []
        self._stack: contextlib.ExitStack | None = None
        self._cluster: EmbeddedCluster | None = None
        self.tls = loopback()
        self.url = ""
        self.start()

    def entries(self) -> list[Audited]:
        """All requests so far."""
        return self._portal.call(lambda: [entry for audit in self._audits for entry in audit.entries])

    def token_of(self, user: User) -> str:
        """A new token."""
        assert self._cluster is not None
        token = self._portal.call(self._cluster.api.tokens.give, user)
        self._users[token] = user
        return token

    def forget(self) -> None:
        """Compacts the store."""
        self._portal.call(self._store.compact)

    def start(self) -> None:
        """Serves, at the address of before."""
        port = int(self.url.rpartition(":")[2] or 0)
        with contextlib.ExitStack() as stack:
            opened = self._portal.wrap_async_context_manager(self._open(port))
            self._cluster, self.url = stack.enter_context(opened)
            self._stack = stack.pop_all()

    def end(self) -> None:
        """Serves no more."""
        if self._stack is not None:
            self._stack.close()
        self._stack = self._cluster = None

    @asynccontextmanager
    async def _open(self, port: int) -> AsyncIterator[tuple[EmbeddedCluster, str]]:
        async with (
            Evaluator() as judge,
            # No kubelet runs beside the real servers, nor anything that gives volumes or addresses.
            open_embedded(
                judge, self._store, tokens=self._users, authority=self.tls.authority.decode(), pace=Pace(None)
            ) as cluster,
        ):
            audit = Audit(cluster.api, cluster.api.registry, ENTRIES_MAX)
            self._audits.append(audit)
            async with serving(cluster.api, port, self.tls.context, handler=audit) as url:
                yield cluster, url


@contextmanager
def start(directory: Path) -> Iterator[EmbeddedServers]:
    """Serves a new, empty cluster while the block lasts."""
    directory.mkdir(parents=True, exist_ok=True)
    with start_blocking_portal() as portal:
        up = _Up(portal)
        try:
            yield EmbeddedServers(directory, up)
        finally:
            up.end()
