#!/usr/bin/env python3
"""Check what Tidelog says about its log, without Tidelog; needs Python 3.9 and `cryptography`.

verify_log.py export DIR [--vkey VKEY] [--checkpoint FILE]     an exported log
verify_log.py proof FILE [--vkey VKEY]                         one inclusion or consistency proof

The tree is that of RFC 6962 with SHA-256, proofs are those of RFC 9162 section 2.1, checkpoints are C2SP
tlog-checkpoints. Exit status: 0 all that was checked holds, 1 there are faults, 2 wrong usage or unreadable.
"""

import argparse
import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial, reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TIME = re.compile(r"(\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d)(?:\.(\d*?)0*)?Z", re.ASCII)
SHOWN = {  # What is said of each sort of check that found no fault.
    "body": "each body has its digest",
    "number": "positions run from 1 to {0}, and versions from 1 in each of {1} streams, without a gap",
    "id": "no id of an event occurs twice",
    "time": "times are UTC and never decrease",
    "reference": "each of {2} references to a body names one that is here, with its size or ciphertext",
    "root": "the events give the root that is signed, and none comes after the last checkpoint",
}
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # What reading bad JSON raises.
found: Counter[str] = Counter()  # Faults by sort.
unbase64 = partial(base64.b64decode, validate=True)
Checkpoint = tuple[str, str, int, bytes]  # Where it was read; origin, size and root of the log.


def _fault(sort: str, text: str) -> None:
    found[sort] += 1
    print("FAULT", text.encode("unicode_escape").decode())  # Nothing raw to a terminal.


def _sha(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def _open_notes(notes: dict[str, str], vkey: str) -> Iterator[Checkpoint]:
    """Give the checkpoints that the key has signed. Signatures by other keys are passed over."""
    name, key_id, encoded = vkey.strip().split("+", 2)
    key = unbase64(encoded)  # 0x01 for Ed25519, and its 32 bytes
    if key[:1] != b"\x01" or _sha(name.encode(), b"\n", key)[:4].hex() != key_id:
        raise ValueError("the key is not of Ed25519, or its id is not its own")
    public = Ed25519PublicKey.from_public_bytes(key[1:])
    for label in [label for label in ("checkpoint", "--checkpoint", "from", "to") if label in notes]:
        try:
            head, _, tail = notes[label].rpartition("\n\n")
            lines = [line.split(" ")[1:] for line in tail.split("\n")[:-1]]
            known = [data for signer, data in lines if signer == name and unbase64(data)[:4].hex() == key_id]
            for signature in known:
                public.verify(unbase64(signature)[4:], f"{head}\n".encode())
            if not known:
                raise LookupError("it has no signature of that key")
            origin, size, root = head.split("\n")[:3]
            yield label, origin, int(size), unbase64(root)
            print(f"ok: {label} is signed by {name}: log {origin} has {size} events and root {root}")
        except (InvalidSignature, *BROKEN) as error:
            _fault("note", f"{label} is not signed by {name}, or malformed: {error!r}")


def _check_bodies(path: Path) -> Iterator[bytes]:
    """Check each body against its digest; give a hash of that with the size, or that of the ciphertext."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                body = json.loads(line.decode())
                data, digest, secret = unbase64(body["body"]), body["digest"], body.get("secret") is True
                stored, prefix = (body["stored"], "hmac-sha256:") if secret else (digest, "sha256:")
                if stored != f"sha256:{sha256(data).hexdigest()}" or not digest.startswith(prefix):
                    _fault("body", f"bodies.jsonl line {number}: the body is not that of {digest}")
                yield _sha(f"{digest} of {stored if secret else len(data)}".encode())
            except BROKEN as error:
                _fault("body", f"bodies.jsonl line {number}: not a body: {error!r}")


def _references(data: Any) -> list[dict[str, Any]]:
    """Find the references to bodies, anywhere in an event's data."""
    items, kinds = [data], ("sha256:", "hmac-sha256:")
    for item in items:  # The list grows on the way.
        items.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
    sized = [item for item in items if isinstance(item, dict) and type(item.get("size")) is int]
    return [item for item in sized if str(item.get("digest")).startswith(kinds)]


def _check_export(folder: Path, checkpoints: list[Checkpoint]) -> None:
    """Check bodies and events. Keeps 32 bytes for each body, 16 for each id, and a number for each stream."""
    bodies, peaks = set(_check_bodies(folder / "bodies.jsonl")), list[bytes]()
    roots, ids, numbers = {size: _sha() for _, _, size, _ in checkpoints}, set[bytes](), Counter[str]()
    before, count, references = ("", ""), 0, 0
    with (folder / "events.jsonl").open("rb") as file:
        for count, line in enumerate(file, 1):
            value, carry = _sha(b"\x00", line.rstrip(b"\n")), count
            while not carry & 1:
                value, carry = _sha(b"\x01", peaks.pop(), value), carry >> 1
            peaks.append(value)
            if count in roots:
                roots[count] = reduce(lambda right, left: _sha(b"\x01", left, right), reversed(peaks))
            try:
                event = json.loads(line.decode())
                where = f"events.jsonl line {count} (position {event['position']})"
                for field, key in (("position", ""), ("version", event["stream"])):
                    if event[field] != numbers[key] + 1:
                        _fault("number", f"{where}: {field} {event[field]} where {numbers[key] + 1} was due")
                    numbers[key] = int(event[field])  # After a fault, go on from what the event says.
                if (short_id := _sha(event["id"].encode())[:16]) in ids:
                    _fault("id", f"{where}: the id {event['id']} occurred before")
                ids.add(short_id)
                sec, frac = match.groups("") if (match := TIME.fullmatch(event["time"])) else ("", "")
                if not match or (sec, frac) < before:
                    _fault("time", f"{where}: the time {event['time']} is not UTC, or before the one before")
                before = max(before, (sec, frac))
                for reference in _references(event["data"]):
                    references += 1
                    detail = reference["stored" if reference.get("secret") is True else "size"]
                    if _sha(f"{reference['digest']} of {detail}".encode()) not in bodies:
                        _fault("reference", f"{where}: no body {reference['digest']} of {detail} is here")
            except BROKEN as error:
                _fault("event", f"events.jsonl line {count}: not an event: {error!r}")
    for label, _, size, root in checkpoints:
        if size > count or roots[size] != root:
            _fault("root", f"the first {size} of {count} events do not give the root that {label} signs")
    if count > max(roots, default=count):
        _fault("root", f"events.jsonl line {max(roots) + 1}: from here on no checkpoint covers the events")
    for sort, text in SHOWN.items():
        if not found[sort] and not found["event"] and (checkpoints or sort != "root"):
            print("ok: " + text.format(count, len(numbers) - 1, references))


def _check_proof(proof: dict[str, Any], checkpoints: list[Checkpoint]) -> None:
    """Walk from a leaf or an old root to the signed root (RFC 9162 2.1.3.2 and 2.1.4.2: one walk)."""
    path = [unbase64(text) for text in proof["hashes"]]
    (_, origin, old, old_root), (_, other, new, new_root) = checkpoints[0], checkpoints[-1]
    here, last = old - 1, new - 1
    if proof["kind"] == "inclusion":
        event, here = json.loads(proof["event"]), proof["index"]
        claim = f"event {event['id']} of position {event['position']} is number {here + 1} in log {other}"
        holds = 0 <= here < new and event["position"] == here + 1
        path = [_sha(b"\x00", proof["event"].encode()), *path]
    else:
        claim = f"log {other} at {new} events begins with log {origin} at {old}"
        holds = origin == other and 0 < old <= new
        shift = max(0, (old & -old).bit_length() - 1)  # As often as the last bit of `here` is set.
        here, last = here >> shift, last >> shift if old < new else 0
        path = [old_root, *path] if old == new or old == 1 << shift else path
    first = final = path[0] if path else b""
    for part in path[1:]:
        holds = holds and last > 0
        if here & 1 or here == last:
            first, final = _sha(b"\x01", part, first), _sha(b"\x01", part, final)
            while here > 0 and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            final = _sha(b"\x01", final, part)
        here, last = here >> 1, last >> 1
    if holds and last == 0 and final == new_root and (proof["kind"] == "inclusion" or first == old_root):
        print(f"ok: {claim}")
    else:
        _fault("proof", f"it is not shown that {claim}")


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["export", "proof"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--vkey", help="the log's key, as you got it from elsewhere")
    parser.add_argument("--checkpoint", type=Path, help="one you kept from earlier, to be checked as well")
    args = parser.parse_args()
    try:
        if args.command == "export":
            given = {name: (args.path / name).read_bytes().decode() for name in ("vkey", "checkpoint")}
            given |= {"--checkpoint": args.checkpoint.read_bytes().decode()} if args.checkpoint else {}
        else:
            given = json.loads(args.path.read_bytes())
        if not args.vkey:
            print("note: the key came with the data, which proves nothing about who signed: pass --vkey")
        checkpoints = list(_open_notes(given, args.vkey or given["vkey"]))
        if args.command == "export":
            _check_export(args.path, checkpoints)
        elif not found:
            _check_proof(given, checkpoints)
    except (OSError, *BROKEN) as error:
        parser.error(f"{args.path} cannot be read: {type(error).__name__}: {error}")
    print(f"faults: {sum(found.values())}" if found else "all of this holds")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(_main())
