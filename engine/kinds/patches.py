"""Which patches in the spec of a Kustomization may hold what a Secret does."""

import re
from typing import Any


def patches_of_secrets(spec: Any) -> list[int]:
    """The places in `spec.patches` of the patches that may be for a Secret, which is as secret as that.

    Args:
        spec: as the API server, or a source, has it.
    """
    patches = spec.get("patches") if isinstance(spec, dict) else None
    return [index for index, patch in enumerate(patches) if _is_of_secret(patch)] if isinstance(patches, list) else []


def _is_of_secret(patch: Any) -> bool:
    if not isinstance(patch, dict) or not isinstance(text := patch.get("patch"), str):
        return False
    if "Secret" in text:
        return True
    target = patch.get("target")
    if not isinstance(target, dict):
        return False  # it is for the object that it names itself
    kind = target.get("kind")
    try:
        return not kind or re.fullmatch(str(kind), "Secret") is not None
    except re.error:
        return True
