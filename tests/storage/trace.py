"""Reading what strace saw, and the disk as it would be after a power failure at some moment of it.

What counts as durable is pessimistic: the content of a file as it was when an fsync of it began that came
back with 0, and the names in a directory as they were when an fsync of the directory did. All else may be
lost, or may be there in part.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeAlias

SECTOR = 512
CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,msync,"
    "ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,linkat,"
    "symlink,symlinkat,copy_file_range,sendfile"
)
HANDLED = {"openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "mkdir"}

_begun = re.compile(rb"(\d+) +(\w+)\((.*?)(?: <unfinished \.\.\.>|\) += (-?\d+).*)$")
_resumed = re.compile(rb"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+).*$")
_hex = re.compile(rb"\\x([0-9a-f]{2})")
_descriptor = re.compile(rb"^\d+<([^>]*)>")
_string = re.compile(rb'"([^"]*)"(\.\.\.)?')


class Call(NamedTuple):
    """A system call; `begun` and `ended` are numbers of lines of the trace."""

    name: str
    arguments: bytes
    result: int
    begun: int
    ended: int

    @property
    def file(self) -> str:
        """The path behind the first argument, a descriptor."""
        found = _descriptor.match(self.arguments)
        assert found, self
        return _unhex(found[1]).decode()

    @property
    def strings(self) -> list[bytes]:
        """The arguments that are strings."""
        found = _string.findall(self.arguments)
        assert not any(cut for _, cut in found), "strace cut a string"
        return [_unhex(text) for text, _ in found]

    @property
    def last_number(self) -> int:
        return int(self.arguments.rsplit(b", ", 1)[1])


class Moment(NamedTuple):
    """A call at one of its two ends."""

    call: Call
    is_end: bool


def _unhex(text: bytes) -> bytes:
    return bytes.fromhex(text.decode().replace("\\x", "")) if _hex.match(text) else text


def run_traced(
    trace: Path, command: Sequence[str], *, inject: str = "", check: bool = True
) -> tuple[list[str], list[Call]]:
    """Runs a Python program under strace; its output's lines, and its calls that change files."""
    strace = ["strace", "-f", "-y", "-xx", "-s", "100000000", "-o", str(trace), "-e", f"trace={CALLS}"]
    if inject:
        strace += ["-e", f"inject={inject}"]
    ran = subprocess.run([*strace, sys.executable, *command], capture_output=True, text=True, check=False, timeout=100)
    assert not check or ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines(), list(parse(trace.read_bytes().splitlines()))


def parse(lines: Sequence[bytes]) -> Iterator[Call]:
    """The calls that came back, in the order in which they did."""
    pending: dict[tuple[bytes, bytes], tuple[int, bytes]] = {}
    for number, line in enumerate(lines):
        if found := _resumed.match(line):
            pid, name, rest, result = found.groups()
            begun, arguments = pending.pop((pid, name))
            yield Call(name.decode(), arguments + rest, int(result), begun, number)
        elif found := _begun.match(line):
            pid, name, arguments, result = found.groups()
            if result is None:
                pending[pid, name] = number, arguments
            else:
                yield Call(name.decode(), arguments, int(result), number, number)


def moments(calls: Sequence[Call]) -> list[Moment]:
    """The beginnings and ends of calls, in the order in which they were."""
    both = [(line, is_end, call) for call in calls for line, is_end in ((call.begun, False), (call.ended, True))]
    return [Moment(call, is_end) for _, is_end, call in sorted(both, key=lambda entry: entry[:2])]


Write: TypeAlias = tuple[int, bytes]
"""An offset, and the bytes from there on."""


class File:
    """A file: its content, what of it is durable, and what was changed since."""

    def __init__(self) -> None:
        self.content = b""
        self.durable = b""
        self.changes: list[Write | int] = []
        """Writes and (as a number) truncations that no fsync has made durable."""

    def change(self, change: Write | int) -> None:
        self.content = changed(self.content, change)
        self.changes.append(change)

    def survivor(self, random: Random | None) -> bytes:
        """The content after a power failure: just what is durable, or with a random part of the rest."""
        content = self.durable
        for change in self.changes if random else ():
            assert random
            if isinstance(change, int):
                content = changed(content, change) if random.random() < 0.5 else content
                continue
            offset, data = change
            kept = random.random()
            for start in range(0, len(data), SECTOR):
                if random.random() < kept:
                    content = changed(content, (offset + start, data[start : start + SECTOR]))
        return content


def changed(content: bytes, change: Write | int) -> bytes:
    if isinstance(change, int):
        return content[:change].ljust(change, b"\0")
    offset, data = change
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


class Directory:
    """A directory; it knows nothing but that it is one."""


class Disk:
    """What is below `root` (which is there, empty and durable), as a trace tells it."""

    def __init__(self, root: Path, existing: Sequence[Path] = ()) -> None:
        self._root = str(root)
        self._names: dict[str, File | Directory] = {str(path): Directory() for path in existing}
        self._durable = dict(self._names)
        self._syncing: dict[Call, tuple[bytes, int] | dict[str, File | Directory]] = {}

    def see(self, moment: Moment) -> None:
        """Does what a call did, at the moment of the trace where it did."""
        call = moment.call
        if call.name in ("fsync", "fdatasync"):
            self._sync(call, is_end=moment.is_end)
        elif moment.is_end and call.result >= 0:
            self._do(call)

    def _do(self, call: Call) -> None:
        paths = [call.file] if _descriptor.match(call.arguments) else [text.decode() for text in call.strings]
        if call.name == "openat":
            paths = [call.strings[0].decode()]
        if not any(self._is_below(path) for path in paths):
            return
        assert call.name in HANDLED, f"the disk does not know {call.name}"
        path = paths[0]
        if call.name == "openat":
            file = self._names.get(path)
            if file is None and b"O_CREAT" in call.arguments:
                self._names[path] = File()
            elif isinstance(file, File) and b"O_TRUNC" in call.arguments:
                file.change(0)
        elif call.name == "mkdir":
            self._names[path] = Directory()
        elif call.name == "rename":
            self._names[paths[1]] = self._names.pop(path)
        elif call.name == "unlink":
            del self._names[path]
        else:
            file = self._names[path]
            assert isinstance(file, File)
            if call.name == "ftruncate":
                file.change(call.last_number)
            elif call.name == "write":
                file.change((len(file.content), call.strings[0][: call.result]))
            else:
                file.change((call.last_number, call.strings[0][: call.result]))

    def _sync(self, call: Call, *, is_end: bool) -> None:
        path = call.file
        if path != self._root and not self._is_below(path):
            return
        file = self._names.get(path, Directory())
        if not is_end:
            names = {name: node for name, node in self._names.items() if _parent(name) == path}
            self._syncing[call] = (file.content, len(file.changes)) if isinstance(file, File) else names
            return
        seen = self._syncing.pop(call)
        if call.result != 0:
            return
        if isinstance(seen, dict):
            gone = [name for name in self._durable if _parent(name) == path and name not in seen]
            for name in gone:
                del self._durable[name]
            self._durable.update(seen)
        elif isinstance(file, File):
            file.durable = seen[0]
            del file.changes[: seen[1]]

    def _is_below(self, path: str) -> bool:
        return path.startswith(self._root + "/")

    def after_power_failure(self, target: Path, random: Random | None) -> None:
        """Writes what survives below `target`, in the place of `root`.

        Without `random` all that is not durable is lost; with it, a random part of it.
        """
        names = dict(self._durable)
        for name in sorted(names.keys() | self._names.keys()) if random else ():
            if random and random.random() < 0.5:
                names.pop(name, None)
                if name in self._names:
                    names[name] = self._names[name]
        target.mkdir(parents=True)
        for name in sorted(names):
            path = target / Path(name).relative_to(self._root)
            node = names[name]
            if not path.parent.is_dir():
                continue  # the directory itself did not survive
            if isinstance(node, File):
                path.write_bytes(node.survivor(random))
            else:
                path.mkdir()


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
