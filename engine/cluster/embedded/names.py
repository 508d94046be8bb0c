"""The forms of names (k8s.io/apimachinery, `util/validation`)."""

import re
from typing import Final

_LABEL_1035: Final = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_1123: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"


def mistakes_in_label(name: str) -> list[str]:
    """What is wrong with a label of DNS (RFC 1035), in the words of the API server."""
    found = []
    if len(name) > 63:
        found.append("must be no more than 63 characters")
    if not re.fullmatch(_LABEL_1035, name):
        found.append(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
            "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
            f"validation is '{_LABEL_1035}')"
        )
    return found


def mistakes_in_subdomain(name: str) -> list[str]:
    """What is wrong with a subdomain of DNS (RFC 1123), in the words of the API server."""
    found = []
    if len(name) > 253:
        found.append("must be no more than 253 characters")
    if not re.fullmatch(_SUBDOMAIN_1123, name):
        found.append(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
            "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
            f"'{_SUBDOMAIN_1123}')"
        )
    return found
