from typing import Any

from tidelog.engine.render.documents import documents


def objects(text: str) -> list[Any]:
    """The values of all documents of a text, without the empty ones."""
    return [document.value for document in documents(text) if document.value is not None]
