"""What a request shows: tokens from files, plugins that work, fail and hang, certificates."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiohttp import web

from tests.cluster.conftest import CONFIG_MAP, CONFIG_MAPS, QUICK, Script, answer, status, write_kubeconfig
from tidelog.engine.cluster import credentials
from tidelog.engine.cluster.credentials import Credentials, Tokens
from tidelog.engine.cluster.errors import KubeconfigError, UnauthorizedError, UnreachableError
from tidelog.engine.cluster.kubeconfig import Access, User, find_access
from tidelog.engine.cluster.port import Token
from tidelog.engine.cluster.real import open_cluster

API = "client.authentication.k8s.io/v1"
SECRET = "nobody-may-see-this"


async def credentials_of(kubeconfig: Path, plugin_s: float = 20) -> Credentials:
    access = await anyio.to_thread.run_sync(find_access, kubeconfig, None)
    return Credentials(access, plugin_s=plugin_s)


class Plugin:
    """A program that prints what the test wants, and notes each time it runs."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "plugin.py"
        self._runs = directory / "runs"
        self.answer = directory / "answer"
        self.kubeconfig = directory / "kubeconfig"

    async def write(self, script: str, server: str, *, plugin_s: float = 20, **more: Any) -> Credentials:
        note = f"import os, sys\nopen({str(self._runs)!r}, 'a').write(os.environ['KUBERNETES_EXEC_INFO'] + '\\n')\n"
        self._program.write_text(note + script)
        exec_ = {"command": sys.executable, "args": [str(self._program)], "apiVersion": API, **more}
        write_kubeconfig(self.kubeconfig, server, {"exec": exec_})
        return await credentials_of(self.kubeconfig, plugin_s)

    async def prints(self, server: str, answer: Any, **more: Any) -> Credentials:
        self.answer.write_text(json.dumps(answer))
        return await self.write(f"print(open({str(self.answer)!r}).read())", server, **more)

    @property
    def runs(self) -> list[Any]:
        return [json.loads(line) for line in self._runs.read_text().splitlines()] if self._runs.exists() else []


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


def credential(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": "ExecCredential", "status": fields}


def in_time(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def refused(given: Credentials) -> str:
    with pytest.raises(KubeconfigError) as caught:
        await given.current()
    error: BaseException | None = caught.value
    while error:
        assert SECRET not in f"{error}"
        error = error.__cause__
    return str(caught.value)


# --------------------------------------------------------------------------------------------------- plugins


async def test_plugin_runs_once_for_all_requests(plugin: Plugin) -> None:
    given = await plugin.prints("http://server", credential(token="one", expirationTimestamp=in_time(3_600)))
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(given.current)
    assert (await given.current()).headers == {"Authorization": "Bearer one"}
    (run,) = plugin.runs
    assert run == {"apiVersion": API, "kind": "ExecCredential", "spec": {"interactive": False}}


async def test_plugin_runs_again_when_its_credential_is_about_to_end(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "AGAIN_S", 0.0)
    given = await plugin.prints(
        "http://server", credential(token="one", expirationTimestamp=in_time(credentials.EARLY_S - 1))
    )
    first = await given.current()
    plugin.answer.write_text(json.dumps(credential(token="two")))
    assert (await given.current()).headers == {"Authorization": "Bearer two"}
    assert first.headers == {"Authorization": "Bearer one"}


async def test_plugin_is_told_of_the_cluster_and_gets_its_environment(plugin: Plugin) -> None:
    given = await plugin.write(
        "import json\nstatus = {'token': os.environ['MINE']}\n"
        f"print(json.dumps({{'apiVersion': {API!r}, 'kind': 'ExecCredential', 'status': status}}))",
        "http://server",
        env=[{"name": "MINE", "value": "from-the-environment"}],
        provideClusterInfo=True,
    )
    assert (await given.current()).headers == {"Authorization": "Bearer from-the-environment"}
    assert plugin.runs[0]["spec"]["cluster"] == {"server": "http://server"}


async def test_plugin_that_fails_is_quoted(plugin: Plugin) -> None:
    given = await plugin.write(f"print('{SECRET}'); sys.exit('token expired:\\n run login')", "http://server")
    assert (await refused(given)).endswith("failed with exit code 1: token expired: run login")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit(1)", "failed with exit code 1: it says nothing; run it by hand"),
        ("os.kill(os.getpid(), 9)", "was ended by signal 9: it says nothing"),
    ],
)
async def test_plugin_that_ends_without_a_word_is_told_what_to_do(plugin: Plugin, code: str, message: str) -> None:
    assert message in await refused(await plugin.write(f"import os; {code}", "http://server"))


async def test_plugin_that_is_absent_and_has_no_hint_is_told_what_to_look_at(plugin: Plugin) -> None:
    given = await plugin.write("", "http://server", command="no-such-plugin")
    assert "No such file or directory; is it installed, in PATH" in await refused(given)


async def test_plugin_that_is_absent_comes_with_its_hint(plugin: Plugin) -> None:
    given = await plugin.write("", "http://server", command="/no/such/plugin", installHint="apt install plugin")
    message = await refused(given)
    assert "cannot be run: No such file or directory; apt install plugin" in message


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (f'"{SECRET}"', "did not print an ExecCredential; run it by hand"),
        (f"{{{SECRET}", "did not print an ExecCredential"),
        ("", "did not print an ExecCredential"),
        (json.dumps({**credential(token=SECRET), "apiVersion": "client.authentication.k8s.io/v1beta1"}), f"says {API}"),
        (json.dumps(credential()), "neither a token nor a client certificate"),
        (json.dumps(credential(clientKeyData=SECRET)), "neither a token nor a client certificate"),
        (json.dumps(credential(token=f"{SECRET}\n")), "printed has characters that no token has"),
    ],
)
async def test_plugin_that_prints_something_else_is_refused(plugin: Plugin, printed: str, message: str) -> None:
    plugin.answer.write_text(printed)
    given = await plugin.write(f"sys.stdout.write(open({str(plugin.answer)!r}).read())", "http://server")
    assert message in await refused(given)


async def test_plugin_that_prints_without_end_is_refused(plugin: Plugin) -> None:
    given = await plugin.write("for _ in range(64): sys.stdout.write('x' * (1 << 20))", "http://server")
    assert "did not print an ExecCredential" in await refused(given)


async def test_plugin_that_hangs_is_ended_with_what_it_started(plugin: Plugin, tmp_path: Path) -> None:
    """A plugin is often a script: what it started holds its output open, and would go on."""
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    given = await plugin.write(
        f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pids)!r}, "w").write(str(child.pid))
child.wait()
""",
        "http://server",
        plugin_s=600,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(given.current)
        child = int(await anyio.Path(pids).read_text())
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        while _is_running(child):  # noqa: ASYNC110 - it is not ours to wait for
            await anyio.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_plugin_that_hangs_is_told(plugin: Plugin) -> None:
    given = await plugin.write("import time; time.sleep(600)", "http://server", plugin_s=0.5)
    assert "gave no credentials within 0.5 s" in await refused(given)


async def test_refused_token_makes_the_plugin_run_again(script: Script, plugin: Plugin) -> None:
    await plugin.prints(script.url, credential(token="old"))
    async with open_cluster(plugin.kubeconfig, limits=QUICK) as cluster:
        plugin.answer.write_text(json.dumps(credential(token="new")))
        script.answers = [status(401, "Unauthorized", "Unauthorized"), answer(200, CONFIG_MAP)]
        assert await cluster.get(CONFIG_MAPS, "n", "a") == CONFIG_MAP
        assert [request.headers["Authorization"] for request in script.seen] == ["Bearer old", "Bearer new"]
        script.answers = [status(401, "Unauthorized", "Unauthorized")]
        with pytest.raises(UnauthorizedError):
            await cluster.get(CONFIG_MAPS, "n", "a")
    assert len(plugin.runs) == 3


# ------------------------------------------------------------------------------------- tokens that are asked for


class Giver:
    """Gives tokens that last for some seconds, each another one; or none."""

    def __init__(self, lasts_s: float) -> None:
        self.lasts_s = lasts_s
        self.given = 0
        self.fails = False

    async def __call__(self) -> Token:
        if self.fails:
            raise UnreachableError("no token")
        self.given += 1
        return Token(f"number-{self.given}", self.lasts_s)


def credentials_by(giver: Giver) -> Credentials:
    return Credentials(Access(origin="ConfigMap a/b", server="http://server", user=User()), tokens=Tokens(giver))


async def shown(given: Credentials) -> str:
    return (await given.current()).headers["Authorization"]


async def test_a_token_is_asked_for_once_for_all_requests_and_again_when_it_is_refused() -> None:
    giver = Giver(3_600)
    given = credentials_by(giver)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(given.current)
    assert (await shown(given), giver.given) == ("Bearer number-1", 1)
    refused_one = await given.current()
    fresh = await given.renewed(refused_one)
    assert fresh is not None
    assert fresh.headers == {"Authorization": "Bearer number-2"}
    assert await given.renewed(refused_one) is fresh  # somebody else was told the same
    assert giver.given == 2


async def test_a_token_is_renewed_when_four_fifths_of_its_time_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    giver = Giver(3_600)
    given = credentials_by(giver)
    assert await shown(given) == "Bearer number-1"
    clock.now += 2_879
    assert await shown(given) == "Bearer number-1"
    clock.now += 2
    assert await shown(given) == "Bearer number-2"
    # While none can be had, the one before goes on being shown until it ends, and no longer.
    giver.fails = True
    clock.now += 2_881
    assert await shown(given) == "Bearer number-2"
    clock.now += 718
    assert await shown(given) == "Bearer number-2"
    clock.now += 2
    with pytest.raises(UnreachableError, match="no token"):
        await given.current()
    giver.fails = False
    assert await shown(given) == "Bearer number-3"


class Clock:
    """The clock that credentials are good by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(credentials, "time", SimpleNamespace(monotonic=lambda: self.now))


# ----------------------------------------------------------------------------------------------- files, bytes


async def test_token_file_is_read_again(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "FILES_S", 0.0)
    token = tmp_path / "token"
    token.write_text("old\n")
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", script.url, {"tokenFile": "token"})
    async with open_cluster(kubeconfig, limits=QUICK) as cluster:
        script.answers = [answer(200, CONFIG_MAP), answer(200, CONFIG_MAP)]
        await cluster.get(CONFIG_MAPS, "n", "a")
        token.write_text("new\n")
        await cluster.get(CONFIG_MAPS, "n", "a")
    assert [request.headers["Authorization"] for request in script.seen] == ["Bearer old", "Bearer new"]


async def test_change_is_sent_again_after_a_refusal_with_the_new_token(script: Script, tmp_path: Path) -> None:
    """Who is refused has changed nothing."""
    token = tmp_path / "token"
    token.write_text("old")
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", script.url, {"tokenFile": "token"})
    async with open_cluster(kubeconfig, limits=QUICK) as cluster:
        token.write_text("new")
        script.answers = [status(401, "Unauthorized", "Unauthorized"), answer(201, CONFIG_MAP)]
        await cluster.create(CONFIG_MAP, manager="m")
    assert [request.headers["Authorization"] for request in script.seen] == ["Bearer old", "Bearer new"]
    assert len(set(script.bodies)) == 1


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("two words", "characters that no token has")])
async def test_file_that_holds_no_token_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "token").write_text(content)
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "http://server", {"tokenFile": "token"})
    assert message in await refused(await credentials_of(kubeconfig))


async def test_basic_authentication(script: Script, tmp_path: Path) -> None:
    user = {"username": "me", "password": "pass:wörd"}
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", script.url, user)
    async with open_cluster(kubeconfig, limits=QUICK) as cluster:
        script.answers = [answer(200, CONFIG_MAP)]
        await cluster.get(CONFIG_MAPS, "n", "a")
    assert script.seen[0].headers["Authorization"] == "Basic bWU6cGFzczp3w7ZyZA=="


async def test_authority_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("not a certificate")
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "https://server", {}, **{"certificate-authority": "ca.crt"})
    message = await refused(await credentials_of(kubeconfig))
    assert message == f"the certificate authority of context 'it' of {kubeconfig} holds no PEM certificate"


async def test_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    for name in ("me.crt", "me.key"):
        (tmp_path / name).write_text(SECRET)
    user = {"client-certificate": "me.crt", "client-key": "me.key"}
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "https://server", user)
    assert "they must be PEM, belong together" in await refused(await credentials_of(kubeconfig))


async def test_act_as_of_the_kubeconfig_is_in_the_headers(script: Script, tmp_path: Path) -> None:
    user = {"token": "t", "as": "robot", "as-groups": ["robots"]}
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", script.url, user)
    async with open_cluster(kubeconfig, limits=QUICK) as cluster:
        script.answers = [web.json_response(CONFIG_MAP)]
        await cluster.get(CONFIG_MAPS, "n", "a")
    assert script.seen[0].headers["Impersonate-User"] == "robot"
    assert script.seen[0].headers["Impersonate-Group"] == "robots"
