"""Generations: the words that say which values of a namespace are valid, and which have ended.

A generation is begun by whoever needs it first and ended by clearing. A server that comes back with
what it saved earlier, or a replica that lagged behind, brings an ended one back. So a word begins
with the time, and is later than all that its writer knows; whoever knows a later one ends it again.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

_WORD = re.compile(r"[0-9a-f]{21}")
_TIME = 11  # digits: milliseconds since 1970; the others are drawn, and cannot be guessed
DRAWN_FROM = _TIME

#: The last word that is known to have ended, by the server's address and the key of the generation.
#: All caches of the process know it, those made later too, and its forked workers.
ended: dict[tuple[str, str], str] = {}


def parse_word(found: Any) -> str | None:
    """Return a word as it was found on a server; None if it is not one of ours."""
    word = found.decode("ascii", "replace") if isinstance(found, bytes) else str(found)
    return word if _WORD.fullmatch(word) else None


def new_word(url: str, name: str) -> str:
    """Return a word that was never used, later than those that are known to have ended."""
    last = ended.get((url, name), "")
    milliseconds = max(int(1000 * time.time()), int(last[:_TIME] or "0", 16) + 1)
    return f"{milliseconds:0{_TIME}x}{secrets.token_hex(5)}"


def end(url: str, name: str, word: str) -> None:
    """Remember that a generation has ended, and all before it."""
    ended[url, name] = max(word, ended.get((url, name), ""))


def has_ended(url: str, name: str, word: str) -> bool:
    """Return whether a generation is known to have ended."""
    return word <= ended.get((url, name), "")
