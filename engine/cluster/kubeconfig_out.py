"""A kubeconfig for one cluster, that stands by itself: what `--kubeconfig-out` writes."""

import base64
import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tidelog.engine.cluster.kubeconfig import EMBEDDED, Access, Exec, User

NAME = "tidelog"
LASTS = "as long as the process that serves it"
KUBECONFIG_BYTES_MAX = 1 << 20


def write_kubeconfig(path: Path, access: Access) -> None:
    """Writes how a cluster is reached, for `kubectl` and others; readable by its owner alone. Blocks.

    A directory that is not there is made, as kubectl does. Certificates and keys are taken into it. Tokens that are
    files stay files: they are renewed there.

    Raises:
        OSError: when the file cannot be written, or is a kubeconfig of other clusters, which would be lost.
    """
    _spare_others(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(document_of(access)), indent=2) + b"\n")
    new.replace(path)


def _spare_others(path: Path) -> None:
    try:
        found = yaml.safe_load(path.read_bytes()[:KUBECONFIG_BYTES_MAX])
    except (FileNotFoundError, yaml.YAMLError, RecursionError, ValueError):
        return
    parts = found if isinstance(found, dict) else {}
    names = {
        one.get("name")
        for part in ("clusters", "users", "contexts")
        for one in parts.get(part) or ()
        if isinstance(one, dict)
    }
    if names - {NAME}:
        why = "it is a kubeconfig of other clusters, and would be overwritten: name another file"
        raise FileExistsError(errno.EEXIST, why, str(path))


def document_of(access: Access) -> dict[str, Any]:
    """The document: JSON is YAML too."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": _cluster(access)}],
        "users": [{"name": NAME, "user": _user(access.user)}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "current-context": NAME,
    }


def _cluster(access: Access) -> dict[str, Any]:
    return _said(
        {
            "server": access.server,
            "certificate-authority-data": _base64(access.ca),
            "insecure-skip-tls-verify": not access.verify,
            "tls-server-name": access.server_name,
            "proxy-url": access.proxy,
            "extensions": [{"name": EMBEDDED, "extension": {"lasts": LASTS}}] if access.embedded else [],
        }
    )


def _user(user: User) -> dict[str, Any]:
    name, password = user.basic or (None, None)
    act_as, groups = user.act_as or (None, ())
    return _said(
        {
            "client-certificate-data": _content(user.certificate),
            "client-key-data": _content(user.key),
            "token": user.token if isinstance(user.token, str) else None,
            "tokenFile": str(user.token.absolute()) if isinstance(user.token, Path) else None,
            "username": name,
            "password": password,
            "exec": None if user.exec is None else _exec(user.exec),
            "as": act_as,
            "as-groups": list(groups),
        }
    )


def _exec(program: Exec) -> dict[str, Any]:
    command, *arguments = program.argv
    return _said(
        {
            "apiVersion": program.api_version,
            "command": str(Path(command).absolute()) if os.sep in command else command,
            "args": arguments,
            "env": [{"name": name, "value": value} for name, value in program.environment.items()],
            "installHint": program.hint,
            "provideClusterInfo": program.cluster_info is not None,
            "interactiveMode": "IfAvailable",
        }
    )


def _content(of: bytes | Path | None) -> str | None:
    return _base64(of.read_bytes() if isinstance(of, Path) else of)


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value}
