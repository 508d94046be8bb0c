"""What is typed wrongly is said with the option, the value, and what is right; and settings are explained."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--concurrent", "foo"), ("'--concurrent'", "'foo'", "a whole number from 1 to 1000")),
        (("run", "--concurrent", "0"), ("'--concurrent'", "'0'", "1 to 1000")),
        (("run", "--log-level", "loud"), ("'--log-level'", "'loud'", "'trace', 'debug', 'info', 'error'")),
        (("run", "--max-retry-delay", "soon"), ("'--max-retry-delay'", "'soon'", "1h30m")),
        (("run", "--no-remote-bases=perhaps"), ("'--no-remote-bases'", "'perhaps'", "true")),
        (("run", "--timeout", "foo"), ("'--timeout'", "'foo'", "30s, 5m or 1h30m")),
        (("run", "--timeout=-5s"), ("'--timeout'", "'-5s'", "below zero")),
        (("run", "--feature-gates", "Foo=true"), ("'--feature-gates'", "'Foo'", "StrictPostBuildSubstitutions")),
        (("run", "--repo", "here", "--interval", "foo"), ("'--interval'", "'foo'", "1h30m")),
        (("run", "--repo", "here", "--interval", "-1m"), ("'--interval'", "'-1m'", "1h30m")),
        (("run", "--repo", "here", "--path", "../.."), ("'--path'", "'../..'", "leads out of the repository")),
        (("run", "--repo", "here", "--path", "/a/../../b"), ("'--path'", "'/a/../../b'", "leads out")),
        (("run", "--path", "clusters/a"), ("--path goes with --repo",)),
        (("run", "--interval", "5s", "--until-ready"), ("--interval goes with --repo",)),
        (("reconcile", "ks/a", "--timeout", "foo"), ("'--timeout'", "'foo'", "1h30m")),
        (("reapply", "ks/a", "--at", "1", "--why", "x", "--timeout", "foo"), ("'--timeout'", "'foo'", "1h30m")),
        (("log", "state", "nonsense"), ("tidelog log state [OPTIONS] PROJECTION [KEY]\n", "'nonsense'", "'inventory'")),
        (("suspend", "ks/a", "--why", ""), ("'--why'", "say why")),
        (("approve", "plan-1", "--why", " "), ("'--why'", "say why")),
        (("log", "forget", "a/b", "--why", ""), ("'--why'", "say why")),
    ],
)
def test_a_value_that_means_nothing_is_wrong_usage(
    tidelog: Run, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = tidelog(*arguments)
    assert (done.code, done.out) == (2, "")
    assert all(word in done.err for word in words), done.err


def test_every_option_of_the_daemon_says_itself_what_it_is(tidelog: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    printed = tidelog("run", "--help").out
    assert "Kustomizations that run at once.  [default: 20]" in printed
    assert "tidelog settings" not in printed


def test_settings_are_listed_and_explained(tidelog: Run) -> None:
    listed = tidelog("settings")
    assert listed.code == 0
    assert any(line.split()[:2] == ["min-retry-delay", "750ms"] for line in listed.lines)
    as_json = json.loads(tidelog("settings", "-o", "json").out)
    assert [one["name"] for one in as_json] == [line.split()[0] for line in listed.lines[1:]]
    one = tidelog("settings", "concurrent")
    assert one.code == 0
    assert all(word in one.out for word in ("a whole number from 1 to 1000", "kustomize-controller, 4"))
    assert json.loads(tidelog("settings", "concurrent", "-o", "json").out) in as_json
    unknown = tidelog("settings", "concurent")
    assert (unknown.code, "do you mean concurrent" in unknown.err) == (2, True)


GROUPS = [(), ("get",), ("get", "sources"), ("log",), ("tree",)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: " ".join(("tidelog", *group)))
def test_what_a_command_does_is_said_in_whole_words(
    tidelog: Run, group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, _, commands = tidelog(*group, "--help").out.partition("Commands:\n")
    assert commands
    assert "..." not in commands
    told = [line for line in commands.splitlines() if line[2:3].strip()]
    assert all(len(line.split()) > 1 for line in told)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("diff", "kustomization", "apps"), "`tidelog plan KIND/NAME --path DIR`"),
        (("bootstrap", "github"), "`tidelog run --repo URL --path PATH`"),
        (("logs",), "`tidelog events`"),
        (("version",), "`tidelog --version`"),
        (("completion", "bash"), "_TIDELOG_COMPLETE=bash_source"),
        (("debug", "ks", "apps"), "`tidelog explain KIND/NAME`"),
        (("push", "artifact", "oci://host/app"), "`flux` does that"),
        (("help",), "`tidelog --help`"),
    ],
)
def test_a_command_that_flux_has_is_answered_with_what_to_type(tidelog: Run, words: tuple[str, ...], hint: str) -> None:
    done = tidelog(*words)
    assert (done.code, done.out) == (2, "")
    assert f"There is no command '{words[0]}', which Flux has" in done.err
    assert hint in done.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("check", "--pre"), "also where nothing is installed yet"),
        (("uninstall", "--dry-run"), "is said before it is asked about"),
        (("resume", "ks/apps", "--wait"), "`tidelog reconcile KIND/NAME` waits"),
        (("get", "ks", "-l", "a=b"), "`kubectl get -l`"),
        (("get", "hr", "--show-source"), "`tidelog trace KIND/NAME`"),
    ],
)
def test_an_option_that_flux_has_is_answered_with_what_to_do(tidelog: Run, words: tuple[str, ...], hint: str) -> None:
    done = tidelog(*words)
    assert (done.code, done.out) == (2, "")
    assert f"There is no {words[2] if words[0] in ('get', 'resume') else words[1]} here, which Flux has" in done.err
    assert hint in done.err


def test_a_store_that_is_not_there_is_told_by_every_command_that_needs_one(tidelog: Run, tmp_path: Path) -> None:
    for words in (("get", "all"), ("log", "rebuild"), ("log", "stat"), ("history", "ks/apps")):
        done = tidelog(*words, "--store", tmp_path / "none")
        assert (done.code, done.err) == (3, f"Error: there is no Tidelog store at {tmp_path / 'none'}\n")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("get", "alerts"), "Alert"),
        (("get", "receiver", "podinfo", "-n", "apps"), "Receiver"),
        (("get", "alert/podinfo"), "Alert"),
    ],
)
def test_a_kind_that_flux_has_and_tidelog_not_yet_is_named(tidelog: Run, words: tuple[str, ...], kind: str) -> None:
    done = tidelog(*words)
    assert done.code == 2
    assert f"{kind} is not there yet" in done.err
    for typed in (("tree", "deployment/web"), ("get", "source/web")):
        done = tidelog(*typed)
        assert (done.code, f"'{typed[1]}' is none of what `tidelog {typed[0]}` shows" in done.err) == (2, True), done


@pytest.mark.parametrize("words", [("pods",), ("ns", "-A"), ("nonsense", "-o", "json")], ids=" ".join)
def test_who_wants_a_list_of_another_kind_is_told_what_get_shows(tidelog: Run, words: tuple[str, ...]) -> None:
    done = tidelog("get", *words)
    assert (done.code, done.out) == (2, "")
    assert f"lists sources and targets, and not '{words[0]}'; `get KIND/NAME` shows" in done.err


def test_who_wants_get_to_go_on_is_told_what_does(tidelog: Run) -> None:
    for words in (("get", "ks", "--watch"), ("get", "all", "-w")):
        done = tidelog(*words)
        assert (done.code, "`tidelog events -w`" in done.err) == (2, True), done
    assert "--watch" not in tidelog("get", "ks", "--help").out


@pytest.mark.parametrize(
    "words",
    [
        ("get", "all"),
        ("log", "verify"),
        ("trace", "deployment/web"),
        ("suspend", "ks/apps", "--why", "x"),
        ("reconcile", "ks/apps"),
        ("approve", "plan-1", "--why", "x"),
        ("mark", "one", "--why", "x"),
        ("plan", "ks/apps"),
        ("check",),
    ],
    ids=" ".join,
)
def test_a_store_that_this_user_may_not_read_is_not_taken_for_something_typed_wrongly(
    children: Path, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    with TemporaryDirectory(dir="/tmp") as public:
        Path(public).chmod(0o755)
        store = Path(public) / "store"
        store.mkdir()
        (store / "log.db").touch()
        store.chmod(0o700 if os.geteuid() == 0 else 0)
        done = subprocess.run(
            [sys.executable, children / "as_nobody.py", *words, "--store", store],
            env=environment | {"KUBECONFIG": f"{public}/none"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        store.chmod(0o700)
    says = f"{store} cannot be read: Permission denied"
    if words == ("check",):
        assert (done.returncode, f"✗ store: {says}" in done.stdout) == (1, True), done
    else:
        assert (done.returncode, done.stdout, done.stderr) == (3, "", f"Error: {says}\n")
