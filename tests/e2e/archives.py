"""Archives as other tools make them."""

import io
import tarfile
from collections.abc import Mapping


def archive_of(files: Mapping[str, str]) -> bytes:
    """A tar.gz of some files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
