"""The requests that somebody made, from the API server's audit log."""

import json
from collections import Counter
from pathlib import Path

from bench.reconciling.fleet import Object

LEASE = "lease"
_OURS = {"gitrepositories", "kustomizations", "helmcharts", "helmreleases"}


def requests(audit_log: Path, user: str, after: int = 0) -> tuple[Counter[str], int]:
    """How many requests of each sort `user` made (before impersonation), and where the log ends now.

    Args:
        audit_log: JSON lines.
        user: whose.
        after: where to begin, in bytes.
    """
    counted: Counter[str] = Counter()
    with audit_log.open("rb") as lines:
        lines.seek(after)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            after += len(line)
            entry = json.loads(line)
            # A watch counts when it begins: it may never be complete.
            begins = entry["stage"] == "ResponseStarted"
            if entry["user"].get("username") == user and begins == (entry["verb"] == "watch"):
                counted[sort_of(entry)] += 1
    return counted, after


def sort_of(entry: Object) -> str:
    """The sort of a request: its verb, and what sets it apart."""
    what, verb = entry.get("objectRef") or {}, str(entry["verb"])
    resource = what.get("resource", "")
    if resource == "leases":
        return LEASE
    if resource == "events":
        return "event"
    if what.get("subresource") == "status":
        return "status"
    if resource == "secrets":
        return f"{verb} of Secrets"
    if "dryRun=" in entry["requestURI"]:
        return "dry run"
    if verb == "patch" and resource not in _OURS:
        return "apply"
    return f"{verb} of our kinds" if resource in _OURS and verb != "watch" else verb
