"""What a program may reach: Linux' Landlock, from the standard library alone.

Kustomize is told to load from anywhere (contract KS-054), and so the kernel has to hold it in its checkout: the walk
sees what it knows to be a path, the kernel sees every file that is opened. Where a kernel has no Landlock (before
5.13, or switched off), the walk alone stands guard, and refuses what it cannot see through.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION: Final = 1
_NO_NEW_PRIVILEGES: Final = 38
_PATH_BENEATH: Final = 1
_PORT: Final = 2

# What each version of the interface knows, as bits.
_FILES_BY_VERSION: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP: Final = 0b11
_CONNECT: Final = 0b10
_TCP_SINCE: Final = 4

_EXECUTE: Final = 1 << 0
_READ: Final = 1 << 2 | 1 << 3
_ONLY_FILES: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""Rights that a rule on a file, and not on a directory, may give."""


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("place", ctypes.c_int32)]


class _Port(ctypes.Structure):
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


class Reach(msgspec.Struct, frozen=True):
    """What a program may reach, with all below each path; paths that do not exist are passed over."""

    read: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    ports: tuple[int, ...] = ()
    """Of TCP, that may be connected to without all of the network: at any address, as Landlock knows none."""


def version(libc: ctypes.CDLL | None = None) -> int:
    """The version of the kernel's Landlock; 0 where there is none."""
    found: int = (libc or _libc()).syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    return max(0, found)


class Fence:
    """Keeps the process that calls `close_around_me`, and all it starts, within a reach.

    Made before a fork and closed after it: until then it opens what it needs.
    """

    def __init__(self, reach: Reach) -> None:
        self._libc = _libc()
        self._ruleset = -1
        found = version(self._libc)
        if not found:
            return
        files = _FILES_BY_VERSION[max(known for known in _FILES_BY_VERSION if known <= found)]
        network = _TCP if found >= _TCP_SINCE and not reach.network else 0
        rules = _Ruleset(files, network)
        size = ctypes.sizeof(rules) if found >= _TCP_SINCE else 8
        self._ruleset = self._libc.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0)
        if self._ruleset < 0:
            raise OSError(ctypes.get_errno(), "Landlock refuses the rules")
        self._allow(reach.read, _READ & files)
        self._allow(reach.execute, (_READ | _EXECUTE) & files)
        self._allow(reach.write, files & ~_EXECUTE)
        for port in reach.ports if network else ():
            rule = _Port(_CONNECT, port)
            if self._libc.syscall(_ADD, self._ruleset, _PORT, ctypes.byref(rule), 0):
                raise OSError(ctypes.get_errno(), "Landlock refuses a rule on a port")

    def close_around_me(self) -> None:
        """From now on this process reaches no more. Fit for the time between fork and exec."""
        if self._ruleset < 0:
            return
        if self._libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or self._libc.syscall(_RESTRICT, self._ruleset, 0):
            raise OSError(ctypes.get_errno(), "Landlock does not close")

    def close(self) -> None:
        """Gives back what was opened; for the process that goes on outside."""
        if self._ruleset >= 0:
            os.close(self._ruleset)
            self._ruleset = -1

    def _allow(self, paths: Iterable[str], rights: int) -> None:
        for path in paths:
            if not Path(path).exists():
                continue
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                allowed = rights if Path(path).is_dir() else rights & _ONLY_FILES
                rule = _Beneath(allowed, place)
                if self._libc.syscall(_ADD, self._ruleset, _PATH_BENEATH, ctypes.byref(rule), 0):
                    raise OSError(ctypes.get_errno(), "Landlock refuses a rule", path)
            finally:
                os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
