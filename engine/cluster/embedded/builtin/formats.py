"""Forms of names and values, and what the server says of those that have them not."""

import re
from typing import Final

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
LABEL_LENGTH: Final = 63
SUBDOMAIN_LENGTH: Final = 253
PORT_NAME_LENGTH: Final = 15
_LAST_PORT: Final = 65535
_BYTES: Final = "bytes"
"""What the server counts in labels, and says so there only."""
EMPTY: Final = "must be non-empty"


def dns_label(text: str) -> list[str]:
    """What is wrong with a label of DNS (RFC 1123)."""
    found = _too_long(text, LABEL_LENGTH)
    if re.fullmatch(_LABEL, text):
        return found
    if re.fullmatch(_SUBDOMAIN, text):
        return [*found, "must not contain dots"]
    say = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    )
    return [*found, _form(say + "with an alphanumeric character", _LABEL, "my-name", "123-abc")]


def dns_subdomain(text: str, unit: str = "characters") -> list[str]:
    """What is wrong with a subdomain of DNS (RFC 1123)."""
    found = _too_long(text, SUBDOMAIN_LENGTH, unit)
    if re.fullmatch(_SUBDOMAIN, text):
        return found
    say = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    )
    return [*found, _form(say + "and end with an alphanumeric character", _SUBDOMAIN, "example.com")]


def wildcard_subdomain(text: str) -> list[str]:
    """What is wrong with a subdomain of DNS whose first label is a star."""
    found, form = _too_long(text, SUBDOMAIN_LENGTH), rf"\*\.{_SUBDOMAIN}"
    if re.fullmatch(form, text):
        return found
    say = (
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
        "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
    )
    return [*found, _form(say, form, "*.example.com")]


def service_name(text: str) -> list[str]:
    """What is wrong with a label of DNS as services have it (RFC 1035)."""
    found = _too_long(text, LABEL_LENGTH)
    if re.fullmatch(_SERVICE, text):
        return found
    say = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    return [*found, _form(f"{say} character, and end with an alphanumeric character", _SERVICE, "my-name", "abc-123")]


def path_segment(text: str) -> list[str]:
    """What is wrong with a name that may be nearly anything: those of RBAC."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{sign}'" for sign in "/%" if sign in text]


def qualified_name(text: str) -> list[str]:
    """What is wrong with the key of a label."""
    parts = text.split("/")
    say = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    said = _form(f"{say} character", _KEY, "MyName", "my.name", "123-abc")
    if len(parts) > 2:
        return [f"a valid label key {said} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    found: list[str] = []
    if len(parts) == 2:
        wrong = dns_subdomain(parts[0], _BYTES) if parts[0] else [EMPTY]
        found += [f"prefix part {one}" for one in wrong]
    name = parts[-1]
    found += [f"name part {one}" for one in ([EMPTY] if not name else _too_long(name, LABEL_LENGTH, _BYTES))]
    return found if re.fullmatch(_KEY, name) else [*found, f"name part {said}"]


def label_value(text: str) -> list[str]:
    """What is wrong with the value of a label."""
    found = _too_long(text, LABEL_LENGTH, _BYTES)
    if re.fullmatch(f"({_KEY})?", text):
        return found
    say = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start"
    return [
        *found,
        _form(f"{say} and end with an alphanumeric character", f"({_KEY})?", "MyValue", "my_value", "12345"),
    ]


def config_key(text: str) -> list[str]:
    """What is wrong with a key of a ConfigMap or a Secret."""
    found = _too_long(text, SUBDOMAIN_LENGTH)
    if not re.fullmatch(_CONFIG_KEY, text):
        say = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        found.append(_form(say, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if text == ".":
        found.append("must not be '.'")
    elif text == "..":
        found.append("must not be '..'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def port_number(number: int) -> list[str]:
    """What is wrong with the number of a port."""
    return [] if 1 <= number <= _LAST_PORT else [f"must be between 1 and {_LAST_PORT}, inclusive"]


def port_name(text: str) -> list[str]:
    """What is wrong with the name of a port (RFC 6335)."""
    found = _too_long(text, PORT_NAME_LENGTH)
    if not re.fullmatch("[-a-z0-9]+", text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def variable_name(text: str) -> list[str]:
    """What is wrong with the name of an environment variable."""
    if text and all(" " <= sign <= "~" and sign != "=" for sign in text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def _too_long(text: str, most: int, unit: str = "characters") -> list[str]:
    return [f"must be no more than {most} {unit}"] if len(text.encode()) > most else []


def _form(say: str, form: str, *examples: str) -> str:
    shown = " or ".join(f"'{one}', " for one in examples)
    return f"{say} (e.g. {shown}regex used for validation is '{form}')"
