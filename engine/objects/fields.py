"""What stands in an object at a path; where another sort of value does, or none, that is no error."""

from tidelog.engine.objects.kube import KubeObject, KubeValue


def at(value: KubeValue, *path: str) -> KubeValue:
    """What stands at a path, None where nothing does."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def text_at(obj: KubeObject, *path: str) -> str:
    """The text at a path; empty where none is."""
    value = at(obj, *path)
    return value if isinstance(value, str) else ""


def int_at(obj: KubeObject, default: int, *path: str) -> int:
    """The whole number at a path."""
    value = at(obj, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else default
