"""Whether the server is well, check by check: `/healthz`, `/livez` and `/readyz`."""

from collections.abc import Mapping
from typing import Final

from tidelog.engine.cluster.embedded.requests import Answer

_PLAIN: Final = "text/plain; charset=utf-8"
_ALWAYS: Final = ("ping", "log", "etcd")
_CHECKS: Final = {"healthz": _ALWAYS, "livez": _ALWAYS, "readyz": (*_ALWAYS, "informer-sync", "shutdown")}


def answer(path: str, query: Mapping[str, str]) -> Answer | None:
    """The answer to such a path; None for another."""
    kind, _, check = path.strip("/").partition("/")
    checks = _CHECKS.get(kind)
    if checks is None:
        return None
    if check:
        is_there = check in checks
        return Answer(200, b"ok", _PLAIN) if is_there else Answer(404, b"404 page not found\n", _PLAIN)
    if "verbose" not in query:
        return Answer(200, b"ok", _PLAIN)
    excluded = query.get("exclude", "")
    lines = [f"[+]{one} excluded: ok" if one == excluded else f"[+]{one} ok" for one in checks]
    if excluded and excluded not in checks:
        lines.append(f'warn: some health checks cannot be excluded: no matches for "{excluded}"')
    lines.append(f"{kind} check passed")
    return Answer(200, "".join(f"{line}\n" for line in lines).encode(), _PLAIN)
