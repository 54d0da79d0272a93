"""Options as text for people: shortened, and without what should not be in a log."""

from __future__ import annotations

import re
from typing import Any

_SECRET = re.compile(r"passw|token|secret|credential|key$", re.IGNORECASE)
# Up to the last @, since a password may have one, or a slash; or named behind the question mark.
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)\S+(?=@)|([?&]password=)[^\s&'\"]+")
_LONGEST_VALUE = 100


def secret(name: str) -> bool:
    """Return whether an option of that name is nobody's business."""
    return _SECRET.search(name) is not None


def shown(name: str, value: Any) -> str:
    """Return the ``value`` of the option ``name`` for people."""
    if secret(name):
        return "'***'"
    if isinstance(value, dict):
        inside = ", ".join(f"{key!r}: {shown(str(key), item)}" for key, item in value.items())
        return f"{{{inside}}}"
    text = _URL_PASSWORD.sub(r"\1\2***", repr(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
