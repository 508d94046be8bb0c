"""What Helm says, shortened, and what the templates say that they use."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tidelog.engine.helm.spec import RenderJob

LOOKS_UP_NAMES: Final = "getHostByName"
IMPURE: Final = (
    "bcrypt",
    "encryptAES",
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    LOOKS_UP_NAMES,
    "htpasswd",
    "lookup",
    "now",
    "ago",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randBytes",
    "randInt",
    "randNumeric",
    "shuffle",
    "uuidv4",
)
"""Functions whose answers depend on chance, on the clock or on the cluster."""
_action: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_comment: Final = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
_text: Final = re.compile(r'"(?:\\.|[^"\\\n])*"|`[^`]*`')
_used: Final = re.compile(rf"(?<![.$\w])(?:{'|'.join(sorted(IMPURE, key=len, reverse=True))})(?!\w)")


def impure_functions(templates: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """The functions that templates of the chart call, and the job does not decide; an action in a text counts not."""
    found: set[str] = set()
    for template in templates:
        for action in _action.findall(_comment.sub("", template["data"])):
            found.update(_used.findall(_text.sub("", action)))
    return tuple(sorted(found))


def mentions_lookup(files: Iterable[bytes]) -> bool:
    """Whether some file of a chart, or what a user gives it, may call `lookup`: `tpl` makes templates of any text."""
    return any(b"lookup" in file for file in files)


def readable(said: str, job: RenderJob) -> str:
    """Helm's words in one line, without the path that the chart lies at."""
    path = Path(job.chart)
    text = said.replace(f"{path}/", "").replace(str(path), job.shown)
    return " ".join(text.split())
