"""Archives of charts that somebody made to do harm."""

import gzip
import io
import lzma
import tarfile

import pytest

from tidelog.engine.helm.archives import METADATA_MAX, described, edited, unpacked
from tidelog.engine.helm.errors import ChartError

CHART = b"name: box\nversion: 1.0.0\n"


def tarred(data: bytes, name: str = "box/Chart.yaml") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def with_a_hole(size: int) -> bytes:
    """A Chart.yaml that takes no room, and is of any size: GNU's old form of a file with holes."""
    header = bytearray(tarred(b""))[:512]
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[257:265] = b"ustar  \0"
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


BAD = {
    "a file with holes": (gzip.compress(with_a_hole(2**32)), "holes"),
    "packed twice": (gzip.compress(lzma.compress(tarred(CHART))), "no archive"),
    "no deflate": (gzip.compress(tarred(CHART))[:40] + b"\xff" * 40, "no archive"),
    "ends too early": (gzip.compress(tarred(CHART))[:-10], "no archive"),
}


@pytest.mark.parametrize(("archive", "said"), BAD.values(), ids=BAD)
def test_what_is_no_chart_is_told_and_takes_no_memory(archive: bytes, said: str) -> None:
    for read in (described, lambda data: unpacked("box", data), lambda data: edited(data, build_metadata="1")):
        with pytest.raises(ChartError, match=said):
            read(archive)


def test_a_chart_says_of_itself_what_a_few_lines_hold() -> None:
    assert described(gzip.compress(tarred(CHART))).name == "box"
    with pytest.raises(ChartError, match="more than"):
        described(gzip.compress(tarred(CHART + b"#" * METADATA_MAX)))
