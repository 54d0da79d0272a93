"""Options as text for messages and logs: shortened, and with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(
    r"passw|passphrase|pwd|token(?!i)|secret|credential|auth$|authorization|cookie"
    r"|connection_?string|key$|^user(_?name)?$",
    re.IGNORECASE,
)
_IN_URL = re.compile(
    # Up to the last @: passwords may contain @ and /, but digits before a slash are a port.
    r"(://)(?:[^\s/?#]*|[^\s:/@]*:(?!\d+[/?])\S+)(?=@)"
    r"|([?&][\w.-]*(?:passw\w*|pwd|token|secret|credential|key|sig|signature)=)[^&\s'\"]+",
    re.IGNORECASE,
)
_LONGEST_VALUE = 100  # characters, or items of a list


def secret(name: str) -> bool:
    """Return whether an option of that name holds a secret."""
    return _SECRET.search(name) is not None


def shown(name: str, value: Any) -> str:
    """Return the ``value`` of the option ``name`` as text."""
    if secret(name):
        return "'***'"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key!r}: {shown(str(key), item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if type(value) in (list, tuple) and value:
        first = ", ".join(shown(name, item) for item in value[:_LONGEST_VALUE])
        end = "," if len(value) == 1 else ""
        text = f"[{first}]" if type(value) is list else f"({first}{end})"
    else:
        text = _IN_URL.sub(lambda found: f"{found[1] or found[2]}***", repr(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
