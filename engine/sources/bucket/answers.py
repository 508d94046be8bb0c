"""What S3 and STS answer: XML, of which nothing is believed."""

import re
import xml.etree.ElementTree as ET
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

ANSWER_BYTES_MAX: Final = 16 * 2**20
"""Of one page: a thousand keys of a kilobyte each, thrice encoded, are less."""
CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,63}")


class AnswerError(ValueError):
    """Raised for an answer that is none."""


class Entry(msgspec.Struct, frozen=True):
    """An object of a listing."""

    key: str
    """What of it is no UTF-8 is there as surrogates."""
    etag: str
    size: int


class Page(msgspec.Struct, frozen=True):
    """A part of a listing, and how the next one is asked for; nothing after the last."""

    entries: list[Entry]
    token: str


class Refusal(msgspec.Struct, frozen=True):
    """Why S3 refuses, as far as it can be told: the rest of its answer may have keys and signatures in it."""

    code: str = ""
    region: str = ""


def plain_etag(etag: str | None) -> str:
    """An ETag without its quotes, as Flux has it in a revision; whatever a server sends, it is one line of text."""
    text = (etag or "").strip('"')
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)


def read_page(data: bytes) -> Page:
    """Reads an answer to ListObjectsV2. Blocks.

    Raises:
        AnswerError: when it is none.
    """
    root = _parsed(data)
    if root.tag != "ListBucketResult":
        raise AnswerError("it is no listing")
    is_encoded = _child(root, "EncodingType") == "url"
    entries = []
    for element in root.iter("Contents"):
        key, size = _child(element, "Key"), _child(element, "Size")
        if not key or not size.isascii() or not size.isdigit() or len(size) > 18:
            raise AnswerError("an object has no key or no size")
        entries.append(Entry(_decoded(key) if is_encoded else key, plain_etag(_child(element, "ETag")), int(size)))
    token = _child(root, "NextContinuationToken")
    if _child(root, "IsTruncated") != "true":
        token = ""
    elif not token:
        raise AnswerError("it is cut off, and does not say where to go on")
    return Page(entries, token)


def read_refusal(data: bytes) -> Refusal:
    """Reads an error, whatever it is."""
    try:
        root = _parsed(data)
    except AnswerError:
        return Refusal()
    code, region = _child(root, "Code"), _child(root, "Region")
    for error in root.iter("Error"):  # STS has it further down
        code = code or _child(error, "Code")
    return Refusal(code if CODE.fullmatch(code) else "", region if re.fullmatch(r"[a-z0-9-]{1,32}", region) else "")


def read_keys(data: bytes) -> dict[str, str]:
    """Reads the credentials that STS gives: `AccessKeyId`, `SecretAccessKey`, `SessionToken`.

    Raises:
        AnswerError: when there are none.
    """
    for element in _parsed(data).iter("Credentials"):
        found = {name: _child(element, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
        if found["AccessKeyId"] and found["SecretAccessKey"]:
            return found
    raise AnswerError("it has no credentials")


def _parsed(data: bytes) -> ET.Element:
    """The elements without their namespaces. Entities of the document's own are refused, and with them what they do."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AnswerError("it is not UTF-8") from None
    if "<!DOCTYPE" in text:
        raise AnswerError("it defines entities")
    try:
        root = ET.fromstring(text)  # noqa: S314  # without a DOCTYPE there are no entities to expand
    except ET.ParseError as error:
        raise AnswerError(f"it is no XML (line {error.position[0]})") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _child(element: ET.Element, name: str) -> str:
    return element.findtext(name) or ""


def _decoded(key: str) -> str:
    return unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
