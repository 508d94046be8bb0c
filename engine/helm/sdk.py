"""Helm's Go SDK, through helm-python-sdk: the only module that knows that binding, loaded in worker processes alone.

A third-party binding, so nothing of it leaves this module but `Chart`, whose methods speak Python. Its own `render`
passes no capabilities; the C function below it takes them. It knows no way to leave out the API versions that the SDK
was built with, though, which say that a cluster serves what it dropped years ago (`extensions/v1beta1`): so the list
that all renders begin with is emptied in the library's memory, where `bare_capabilities` finds it by name and checks
that it is what it should be.
"""

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from helm_python import _native
from helm_python.errors import HelmError

_COMMON: Final = "helm.sh/helm/v4/pkg/chart/common."
_WORDS: Final = 24
"""As many machine words of the capabilities are looked at: three texts, the list, and what follows."""
_VERSIONS_MAX: Final = 10_000

Failure = HelmError
"""What all that is here raises."""


class _Slice(ctypes.Structure):
    """A Go slice."""

    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_ssize_t), ("capacity", ctypes.c_ssize_t)]


def version() -> str:
    """Of the SDK, as in `v4.2.3`."""
    return _native.helm_sdk_version()


class UnknownLibraryError(Exception):
    """The library is laid out in another way than the one that this was written for."""


def known_versions() -> "_Slice":
    """The list of API versions in the default capabilities, where it is in memory.

    Raises:
        UnknownLibraryError: when it is not where it should be.
    """
    try:
        default = ctypes.c_void_p.in_dll(_native.lib, f"{_COMMON}DefaultCapabilities").value
        known = _Slice.in_dll(_native.lib, f"{_COMMON}DefaultVersionSet")
    except ValueError:
        raise UnknownLibraryError("it does not name its default capabilities") from None
    if not default or not known.data or not 0 < known.length <= min(known.capacity, _VERSIONS_MAX):
        raise UnknownLibraryError("its default API versions are no list")
    for word in range(_WORDS):
        found = _Slice.from_address(default + word * ctypes.sizeof(ctypes.c_void_p))
        if (found.data, found.length, found.capacity) == (known.data, known.length, known.capacity):
            return found
    raise UnknownLibraryError("its default capabilities do not hold its default API versions")


class Capabilities:
    """Switches the API versions that a chart finds beside those that it is given. One for a process."""

    def __init__(self) -> None:
        self._list = known_versions()
        self._known = self._list.length, self._list.capacity

    def begin_with(self, *, known: bool) -> None:
        """Has the renders to come find what the SDK was built with, or nothing. The memory stays Go's own."""
        self._list.length, self._list.capacity = self._known if known else (0, 0)


class Chart:
    """A chart in the library's memory.

    Rendering changes one that has dependencies (it drops those that are off, and imports values): it is for one
    render.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def load(cls, path: str) -> Self:
        """Reads a directory or an archive.

        Raises:
            Failure: when it is no chart.
        """
        return cls(_native.call_handle("helm_chart_load", path))

    @classmethod
    def of_archive(cls, data: bytes) -> Self:
        """Reads an archive in memory.

        Raises:
            Failure: when it is no chart.
        """
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        return cls(_native.call_handle("helm_chart_load_archive", buffer, len(data)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives its memory back."""
        with suppress(HelmError):
            _native.call_status("helm_chart_free", self._handle)

    def render(self, values: str, options: dict[str, Any], *, api: str = "") -> dict[str, str]:
        """Renders the templates, partials and notes too: path to text.

        Args:
            values: of the user, JSON.
            options: of the library.
            api: the address of the API server that `lookup` asks; empty for one that answers with nothing.

        Raises:
            Failure: as Helm says it.
        """
        told = json.dumps(options)
        if api:
            with _configured(api) as config:
                text = _native.call_string("helm_render_with_config", config, self._handle, values, told)
        else:
            text = _native.call_string("helm_render", self._handle, values, told)
        rendered: dict[str, str] = json.loads(text)
        return rendered

    def told(self, what: str) -> Any:
        """`metadata`, `values`, `templates`, `files`, `crds`, `schema` or `dependencies`, as decoded JSON.

        Raises:
            Failure: when the library cannot say it.
        """
        return json.loads(_native.call_string(f"helm_chart_{what}", self._handle))


@contextmanager
def _configured(api: str) -> Iterator[int]:
    """A configuration for one render. An empty kubeconfig, so that none of this machine's is looked for."""
    settings = {"kube_apiserver": api, "kubeconfig_path": os.devnull, "qps": -1.0, "storage_driver": "memory"}
    handle = _native.call_handle("helm_config_new", json.dumps(settings))
    try:
        yield handle
    finally:
        with suppress(HelmError):
            _native.call_status("helm_config_free", handle)
