"""Options as text for people: shortened, and without what should not be in a log."""

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
    # Up to the last @, since a password may have one, or a slash; but digits before one are a port.
    r"(://)(?:[^\s/?#]*|[^\s:/@]*:(?!\d+[/?])\S+)(?=@)"
    r"|([?&][\w.-]*(?:passw\w*|pwd|token|secret|credential|key|sig|signature)=)[^&\s'\"]+",
    re.IGNORECASE,
)
_LONGEST_VALUE = 100


def secret(name: str) -> bool:
    """Return whether an option of that name is nobody's business."""
    return _SECRET.search(name) is not None


def shown(name: str, value: Any) -> str:
    """Return the ``value`` of the option ``name`` for people."""
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
