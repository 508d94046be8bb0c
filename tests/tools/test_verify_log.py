"""The stand-alone checker: what it accepts, and that each kind of tampering is named."""

import ast
import base64
import contextlib
import hashlib
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tidelog.events.merkle import TreeBuilder, consistency_proof, fold, inclusion_proof, leaf_hash
from tidelog.events.note import Checkpoint, SignerKey, sign

SCRIPT = Path(__file__).parents[2] / "tools" / "verify_log.py"
LOG = SignerKey("example.com/log", bytes(range(32)))
OTHER = SignerKey("example.com/log", bytes(32))
WITNESS = "\N{EM DASH} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRa\n"
BODY = b'{"kind":"ConfigMap"}'
CIPHERTEXT = b"\x00\x01sealed"

Line: TypeAlias = dict[str, Any]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


PLAIN_REF = {"digest": digest(BODY), "size": len(BODY)}
SECRET_REF = {"digest": "hmac-sha256:" + "ab" * 32, "size": 5, "secret": True, "stored": digest(CIPHERTEXT)}


def some_events() -> list[Line]:
    data: list[Any] = [
        {},
        {"deep": [{"body": PLAIN_REF}]},
        {"body": SECRET_REF},
        {"size": 3},
        {},
        {"é": "ü"},
        {},
    ]
    return [
        {
            "data": data[n],
            "id": f"0190f3b2-0000-7000-8000-{n:012}",
            "position": n + 1,
            "stream": "b" if n % 3 == 2 else "a",
            "time": f"2026-11-23T01:36:{n // 2:02}.{n // 2:06}Z",
            "version": [1, 2, 1, 3, 4, 2, 5][n],
        }
        for n in range(7)
    ]


def some_bodies() -> list[Line]:
    return [
        {"digest": PLAIN_REF["digest"], "body": base64.b64encode(BODY).decode()},
        {
            "digest": SECRET_REF["digest"],
            "secret": True,
            "stored": digest(CIPHERTEXT),
            "body": base64.b64encode(CIPHERTEXT).decode(),
        },
    ]


def encoded(value: Line) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def checkpoint_of(entries: list[bytes]) -> Checkpoint:
    builder = TreeBuilder()
    builder.extend([leaf_hash(entry) for entry in entries])
    return Checkpoint("example.com/log", len(entries), builder.root())


class Export:
    """An export to be written whole, or changed first. `signed` are the events that the checkpoint covers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = some_events()
        self.bodies = some_bodies()
        self.signed: int | None = None

    def write(self, *, sign_as_is: bool = True) -> None:
        entries = [encoded(event) for event in (self.events if sign_as_is else some_events())]
        note = sign(checkpoint_of(entries[: self.signed]), LOG) + WITNESS
        (self.folder / "events.jsonl").write_bytes(b"".join(encoded(event) + b"\n" for event in self.events))
        (self.folder / "bodies.jsonl").write_bytes(b"".join(encoded(body) + b"\n" for body in self.bodies))
        (self.folder / "checkpoint").write_text(note, encoding="utf-8")
        (self.folder / "vkey").write_text(LOG.verifier.text + "\n", encoding="utf-8")


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def run(*args: str | Path) -> tuple[int, str]:
    """Run the script with nothing of Tidelog in reach; give its exit status and output."""
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *map(str, args)],
        capture_output=True,
        check=False,
        env={"PYTHONUTF8": "1"},
        encoding="utf-8",
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


def run_inside(*args: str | Path) -> tuple[int, str]:
    """The same without a new process, which is what the many cases would mostly wait for."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(ended.value.code or 0), output.getvalue()


def faults(*args: str | Path) -> list[str]:
    """The faults that the script names, which must be all that makes it fail."""
    status, output = run_inside(*args, "--vkey", LOG.verifier.text)
    named = [line.removeprefix("FAULT ") for line in output.splitlines() if line.startswith("FAULT ")]
    assert status == 1, output
    assert output.endswith(f"faults: {len(named)}\n")
    return named


def test_it_is_short_and_stands_alone() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text, feature_version=(3, 9)))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"cryptography"}


def test_a_good_export(export: Export) -> None:
    export.write()
    root = checkpoint_of([encoded(event) for event in export.events]).text.splitlines()[2]
    assert run("export", export.folder, "--vkey", LOG.verifier.text) == (
        0,
        (
            f"ok: checkpoint is signed by example.com/log: log example.com/log has 7 events and root {root}\n"
            "ok: each body has its digest\n"
            "ok: positions run from 1 to 7, and versions from 1 in each of 2 streams, without a gap\n"
            "ok: no id of an event occurs twice\n"
            "ok: times are UTC and never decrease\n"
            "ok: each of 2 references to a body names one that is here, with its size or ciphertext\n"
            "ok: the events give the root that is signed, and none comes after the last checkpoint\n"
            "all of this holds\n"
        ),
    )


def test_an_empty_export(export: Export) -> None:
    export.events, export.bodies = [], []
    export.write()
    status, output = run("export", export.folder)
    assert status == 0, output


def test_a_key_that_came_with_the_data_is_called_that(export: Export) -> None:
    export.write()
    status, output = run("export", export.folder)
    assert status == 0
    assert output.startswith("note: the key came with the data, which proves nothing about who signed")


def test_a_checkpoint_kept_from_earlier(export: Export, tmp_path: Path) -> None:
    export.write()
    kept = tmp_path / "kept"
    kept.write_text(sign(checkpoint_of([encoded(event) for event in export.events[:3]]), LOG), encoding="utf-8")
    status, output = run("export", export.folder, "--vkey", LOG.verifier.text, "--checkpoint", kept)
    assert status == 0, output
    assert "ok: --checkpoint is signed by example.com/log: log example.com/log has 3 events" in output
    # The log was rewritten, and signed anew by its own key: only what was kept can tell.
    export.events[1]["data"] = {}
    export.write()
    assert faults("export", export.folder, "--checkpoint", kept) == [
        "the first 3 of 7 events do not give the root that --checkpoint signs"
    ]


ROOT = "the first 7 of 7 events do not give the root that checkpoint signs"
SHORT = "the first 7 of 6 events do not give the root that checkpoint signs"


def change(line: int, **fields: object) -> Callable[[Export], None]:
    """Set fields of the event on that line (from 1)."""
    return lambda export: export.events[line - 1].update(fields)


def change_body(line: int, **fields: object) -> Callable[[Export], None]:
    return lambda export: export.bodies[line - 1].update(fields)


def swap(export: Export) -> None:
    export.events[2], export.events[3] = export.events[3], export.events[2]


AT = "events.jsonl line {0} (position {0}): "
TAMPERED: list[tuple[str, Callable[[Export], object], list[str]]] = [
    ("data", change(4, data={"size": 4}), [ROOT]),
    (
        "an event left out",
        lambda export: export.events.pop(3),
        [
            "events.jsonl line 4 (position 5): position 5 where 4 was due",
            "events.jsonl line 4 (position 5): version 4 where 3 was due",
            SHORT,
        ],
    ),
    ("the last event left out", lambda export: export.events.pop(), [SHORT]),
    (
        "events swapped",
        swap,
        [
            "events.jsonl line 3 (position 4): position 4 where 3 was due",
            "events.jsonl line 4 (position 3): position 3 where 5 was due",
            "events.jsonl line 5 (position 5): position 5 where 4 was due",
            ROOT,
        ],
    ),
    (
        "position",
        change(7, position=9),
        ["events.jsonl line 7 (position 9): position 9 where 7 was due", ROOT],
    ),
    ("version", change(6, version=3), [AT.format(6) + "version 3 where 2 was due", ROOT]),
    (
        "stream",
        change(6, stream="c", version=2),
        [AT.format(6) + "version 2 where 1 was due", ROOT],
    ),
    (
        "id",
        change(5, id="0190f3b2-0000-7000-8000-000000000001"),
        [AT.format(5) + "the id 0190f3b2-0000-7000-8000-000000000001 occurred before", ROOT],
    ),
    (
        "time before the last",
        change(7, time="2026-11-23T01:36:02.000001Z"),
        [AT.format(7) + "the time 2026-11-23T01:36:02.000001Z is not UTC, or before the one before", ROOT],
    ),
    (
        "time with a zone",
        change(7, time="2026-11-23T01:36:03.000003+00:00"),
        [
            AT.format(7) + "the time 2026-11-23T01:36:03.000003+00:00 is not UTC, or before the one before",
            ROOT,
        ],
    ),
    (
        "size of a body",
        change(2, data=[{**PLAIN_REF, "size": 21}]),
        [AT.format(2) + f"no body {PLAIN_REF['digest']} of 21 is here", ROOT],
    ),
    (
        "ciphertext of a secret",
        change(3, data={**SECRET_REF, "stored": digest(b"")}),
        [AT.format(3) + f"no body {SECRET_REF['digest']} of {digest(b'')} is here", ROOT],
    ),
    (
        "a secret no longer marked",
        change(3, data={**SECRET_REF, "secret": False}),
        [AT.format(3) + f"no body {SECRET_REF['digest']} of 5 is here", ROOT],
    ),
    (
        "a body left out",
        lambda export: export.bodies.pop(0),
        [AT.format(2) + f"no body {PLAIN_REF['digest']} of 20 is here"],
    ),
    (
        "a secret body left out",
        lambda export: export.bodies.pop(1),
        [AT.format(3) + f"no body {SECRET_REF['digest']} of {SECRET_REF['stored']} is here"],
    ),
    (
        "a body changed",
        change_body(1, body=base64.b64encode(BODY.lower()).decode()),
        [f"bodies.jsonl line 1: the body is not that of {PLAIN_REF['digest']}"],
    ),
    (
        "a secret body changed",
        change_body(2, body=base64.b64encode(CIPHERTEXT[1:]).decode()),
        [f"bodies.jsonl line 2: the body is not that of {SECRET_REF['digest']}"],
    ),
    (
        "a secret body changed with its digest",
        change_body(2, body="", stored=digest(b"")),
        [AT.format(3) + f"no body {SECRET_REF['digest']} of {SECRET_REF['stored']} is here"],
    ),
    (
        "a secret's digest on a body that is none",
        change_body(1, digest="hmac-" + str(PLAIN_REF["digest"])),
        [
            f"bodies.jsonl line 1: the body is not that of hmac-{PLAIN_REF['digest']}",
            AT.format(2) + f"no body {PLAIN_REF['digest']} of 20 is here",
        ],
    ),
    (
        "a plain digest on a secret body",
        lambda export: export.bodies.append({**export.bodies[1], "digest": PLAIN_REF["digest"]}),
        [f"bodies.jsonl line 3: the body is not that of {PLAIN_REF['digest']}"],
    ),
    (
        "a body that is not base64",
        change_body(1, body="*"),
        [
            "bodies.jsonl line 1: not a body: Error('Only base64 data is allowed')",
            AT.format(2) + f"no body {PLAIN_REF['digest']} of 20 is here",
        ],
    ),
]


@pytest.mark.parametrize(("tamper", "expected"), [case[1:] for case in TAMPERED], ids=[case[0] for case in TAMPERED])
def test_tampering_is_named(export: Export, tamper: Callable[[Export], object], expected: list[str]) -> None:
    tamper(export)
    export.write(sign_as_is=False)
    assert faults("export", export.folder) == expected


def test_what_a_dishonest_log_signs_is_checked_too(export: Export) -> None:
    """The root holds, since the log signed the gap itself; it is named all the same."""
    export.events[6]["version"] = 6
    export.write()
    assert faults("export", export.folder) == [AT.format(7) + "version 6 where 5 was due"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{\n", "events.jsonl line 2: not an event: JSONDecodeError("),
        (b"[]\n", "events.jsonl line 2: not an event: TypeError("),
        (b"{}\n", "events.jsonl line 2: not an event: KeyError("),
        (b"\xff\n", "events.jsonl line 2: not an event: UnicodeDecodeError("),
        (b"[" * 100_000 + b"\n", "events.jsonl line 2: not an event: RecursionError("),
    ],
)
def test_a_line_that_is_no_event(export: Export, line: bytes, fault: str) -> None:
    export.write()
    path = export.folder / "events.jsonl"
    first, _, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line, *rest]))
    named = faults("export", export.folder)
    assert named[0].startswith(fault)
    assert named[1] == "events.jsonl line 3 (position 3): position 3 where 2 was due"
    assert named[-1] == ROOT


def test_one_byte_outside_the_values_counts(export: Export) -> None:
    export.write()
    path = export.folder / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"position":4', b'"position": 4'))
    assert faults("export", export.folder) == [ROOT]


def test_events_after_the_checkpoint(export: Export) -> None:
    export.signed = 5
    export.write()
    assert faults("export", export.folder) == ["events.jsonl line 6: from here on no checkpoint covers the events"]


def test_nothing_raw_reaches_the_terminal(export: Export) -> None:
    export.events[4]["id"] = export.events[3]["id"] = "\x1b[2J\ud800"
    for event in export.events:
        event["data"] = {}
    entries = [json.dumps(event, sort_keys=True).encode() for event in export.events]
    (export.folder / "events.jsonl").write_bytes(b"".join(entry + b"\n" for entry in entries))
    (export.folder / "bodies.jsonl").write_bytes(b"")
    (export.folder / "checkpoint").write_text(sign(checkpoint_of(entries), LOG), encoding="utf-8")
    (export.folder / "vkey").write_text(LOG.verifier.text, encoding="utf-8")
    status, output = run("export", export.folder)
    assert status == 1
    assert "\x1b" not in output


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("\n7\n", "\n8\n", "InvalidSignature()"),
        ("example.com/log\n7", "example.com/other\n7", "InvalidSignature()"),
        ("\N{EM DASH} example.com/log", "\N{EM DASH} example.com/other", "it has no signature of that key"),
        ("\n\n", "\n", "ValueError("),
        ("witness.example.com/w1 ", "witness.example.com/w1", "ValueError("),
    ],
)
def test_a_checkpoint_tampered_with(export: Export, old: str, new: str, fault: str) -> None:
    export.write()
    path = export.folder / "checkpoint"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    [named] = faults("export", export.folder)
    assert named.startswith("checkpoint is not signed by example.com/log, or malformed: ")
    assert fault in named


def test_signed_by_another_key(export: Export) -> None:
    export.write()
    status, output = run("export", export.folder, "--vkey", OTHER.verifier.text)
    assert status == 1
    assert "FAULT checkpoint is not signed by example.com/log, or malformed: LookupError(" in output
    assert "root" not in output


@pytest.mark.parametrize("missing", ["events.jsonl", "bodies.jsonl", "checkpoint", "vkey"])
def test_unreadable(export: Export, missing: str) -> None:
    export.write()
    (export.folder / missing).unlink()
    status, output = run("export", export.folder)
    assert status == 2
    assert missing in output


def ecdsa() -> str:
    """A key of another type, under the id that is its own."""
    data = b"\x02" + LOG.verifier.public
    key_id = hashlib.sha256(b"example.com/log\n" + data).digest()[:4].hex()
    return f"example.com/log+{key_id}+{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("vkey", ["log", LOG.verifier.text.replace("example", "exomple"), "a+b+c", ecdsa()])
def test_a_key_that_is_none(export: Export, vkey: str) -> None:
    export.write()
    assert run("export", export.folder, "--vkey", vkey)[0] == 2


@pytest.mark.parametrize("args", [[], ["export"], ["other", "x"], ["export", "/nowhere"], ["proof", "/nowhere"]])
def test_wrong_usage(args: list[str]) -> None:
    assert run(*args)[0] == 2


ENTRIES = [encoded(event) for event in some_events()]


def subtree(level: int, number: int) -> bytes:
    return fold([leaf_hash(entry) for entry in ENTRIES[number << level : (number + 1) << level]])


def encoded_hashes(hashes: list[bytes]) -> list[str]:
    return [base64.b64encode(value).decode() for value in hashes]


def inclusion(index: int) -> Line:
    return {
        "kind": "inclusion",
        "vkey": LOG.verifier.text,
        "checkpoint": sign(checkpoint_of(ENTRIES), LOG) + WITNESS,
        "index": index,
        "event": ENTRIES[index].decode(),
        "hashes": encoded_hashes(inclusion_proof(index, len(ENTRIES), subtree)),
    }


def consistency(old: int, new: int) -> Line:
    return {
        "kind": "consistency",
        "vkey": LOG.verifier.text,
        "from": sign(checkpoint_of(ENTRIES[:old]), LOG),
        "to": sign(checkpoint_of(ENTRIES[:new]), LOG),
        "hashes": encoded_hashes(consistency_proof(old, new, subtree)),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Line], Path]:
    def write(proof: Line) -> Path:
        path = tmp_path / "proof.json"
        path.write_text(json.dumps(proof), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("index", [0, 3, 5, 6])
def test_inclusion(write: Callable[[Line], Path], index: int) -> None:
    status, output = run("proof", write(inclusion(index)), "--vkey", LOG.verifier.text)
    assert status == 0, output
    assert (
        f"ok: event 0190f3b2-0000-7000-8000-{index:012} of position {index + 1} is number {index + 1} in log"
        " example.com/log\nall of this holds\n" in output
    )


@pytest.mark.parametrize(
    ("tamper", "position", "number"),
    [
        ({"index": 3}, 5, 4),
        ({"index": 7}, 5, 8),
        ({"index": -1}, 5, 0),
        ({"event": ENTRIES[4].decode().replace("{}", '{"x":1}')}, 5, 5),
        ({"event": ENTRIES[3].decode()}, 4, 5),
        ({"hashes": []}, 5, 5),
        ({"hashes": inclusion(4)["hashes"][:-1]}, 5, 5),
        ({"hashes": inclusion(4)["hashes"] * 2}, 5, 5),
        ({"hashes": inclusion(5)["hashes"]}, 5, 5),
        ({"checkpoint": sign(checkpoint_of(ENTRIES[:5]), LOG)}, 5, 5),
    ],
)
def test_inclusion_not_shown(write: Callable[[Line], Path], tamper: Line, position: int, number: int) -> None:
    assert faults("proof", write({**inclusion(4), **tamper})) == [
        (
            f"it is not shown that event 0190f3b2-0000-7000-8000-{position - 1:012} of position {position}"
            f" is number {number} in log example.com/log"
        )
    ]


def test_inclusion_of_an_event_that_says_another_place(write: Callable[[Line], Path]) -> None:
    """Leaves 0 to 3 say positions 9, 9, 1, 9: no path of theirs shows the event to be where it says."""
    entries = [encoded({"id": f"e{n}", "position": position}) for n, position in enumerate((9, 9, 1, 9))]
    leaves = [leaf_hash(entry) for entry in entries]
    hashes = [
        encoded_hashes(inclusion_proof(n, 4, lambda level, at: fold(leaves[at << level : (at + 1) << level])))
        for n in range(4)
    ]
    root = checkpoint_of(entries).root
    cases = [
        (2, 2, 4),  # where it is
        (2, 0, 4),  # where it says
        (2, 0, 2),  # where it says, in a tree too small for the path
    ]
    for leaf, index, size in cases:
        note = sign(Checkpoint("example.com/log", size, root), LOG)
        proof = {"event": entries[leaf].decode(), "index": index, "hashes": hashes[leaf], "checkpoint": note}
        assert len(faults("proof", write({**inclusion(0), **proof}))) == 1
    # A path too short for the size that is signed.
    note = sign(Checkpoint("example.com/log", 4, checkpoint_of(ENTRIES[:2]).root), LOG)
    short = encoded_hashes([leaf_hash(ENTRIES[1])])
    assert len(faults("proof", write({**inclusion(0), "hashes": short, "checkpoint": note}))) == 1


@pytest.mark.parametrize(("old", "new"), [(old, new) for new in (1, 4, 6, 7) for old in (1, 3, 4, 7) if old <= new])
def test_consistency(write: Callable[[Line], Path], old: int, new: int) -> None:
    status, output = run_inside("proof", write(consistency(old, new)))
    assert status == 0, output
    assert f"ok: log example.com/log at {new} events begins with log example.com/log at {old}\n" in output


@pytest.mark.parametrize(
    "tamper",
    [
        {"hashes": []},
        {"hashes": consistency(3, 7)["hashes"][:-1]},
        {"hashes": consistency(3, 7)["hashes"] * 2},
        {"hashes": consistency(3, 6)["hashes"]},
        {"from": sign(checkpoint_of(ENTRIES[1:4]), LOG)},
        {"to": sign(checkpoint_of(ENTRIES[::-1]), LOG)},
    ],
)
def test_consistency_not_shown(write: Callable[[Line], Path], tamper: Line) -> None:
    assert faults("proof", write({**consistency(3, 7), **tamper})) == [
        "it is not shown that log example.com/log at 7 events begins with log example.com/log at 3"
    ]


def test_consistency_of_what_cannot_be_compared(write: Callable[[Line], Path]) -> None:
    backwards = consistency(3, 7)
    backwards["from"], backwards["to"] = backwards["to"], backwards["from"]
    assert faults("proof", write(backwards)) == [
        "it is not shown that log example.com/log at 3 events begins with log example.com/log at 7"
    ]
    foreign = Checkpoint("example.com/fork", 3, checkpoint_of(ENTRIES[:3]).root)
    assert faults("proof", write({**consistency(3, 7), "from": sign(foreign, LOG)})) == [
        "it is not shown that log example.com/log at 7 events begins with log example.com/fork at 3"
    ]
    assert len(faults("proof", write(consistency(0, 7)))) == 1


def test_equal_sizes_take_no_hashes(write: Callable[[Line], Path]) -> None:
    assert len(faults("proof", write({**consistency(7, 7), "hashes": consistency(3, 7)["hashes"]}))) == 1
    other = sign(checkpoint_of(ENTRIES[::-1]), LOG)
    assert len(faults("proof", write({**consistency(7, 7), "to": other}))) == 1


def test_a_proof_with_a_bad_signature(write: Callable[[Line], Path]) -> None:
    proof = inclusion(2)
    proof["checkpoint"] = proof["checkpoint"].replace("\n7\n", "\n6\n")
    assert faults("proof", write(proof)) == [
        "checkpoint is not signed by example.com/log, or malformed: InvalidSignature()"
    ]
    proof = consistency(3, 7)
    proof["from"] = sign(checkpoint_of(ENTRIES[:3]), OTHER)
    [fault] = faults("proof", write(proof))
    assert fault.startswith("from is not signed by example.com/log, or malformed: LookupError(")


@pytest.mark.parametrize("field", ["kind", "vkey", "checkpoint", "index", "event", "hashes"])
def test_a_proof_without_a_field(write: Callable[[Line], Path], field: str) -> None:
    proof = inclusion(2)
    del proof[field]
    assert run("proof", write(proof))[0] == 2


def test_a_proof_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(b"{")
    assert run("proof", path)[0] == 2
