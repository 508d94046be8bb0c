"""YAML documents, as a render reads them: what is no YAML is an error of the render."""

from typing import Final

from tidelog.engine import documents as yaml
from tidelog.engine.documents import Document
from tidelog.engine.render.errors import YamlError

__all__ = ["DEPTH_MAX", "Document", "documents"]

DEPTH_MAX: Final = yaml.DEPTH_MAX


def documents(text: str, *, repeated_keys: bool = False) -> list[Document]:
    """All documents of `text`, empty ones included.

    Args:
        text: YAML.
        repeated_keys: whether the last of a key's values counts, instead of being an error.

    Raises:
        YamlError: with the line, when it is no YAML, repeats a key, or is too deep or too much.
    """
    try:
        return yaml.documents(text, repeated_keys=repeated_keys)
    except yaml.YamlError as error:
        raise YamlError(error.problem, error.line) from None
