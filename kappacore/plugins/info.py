"""What is known of a plugin before its target is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

#: Kind -> how messages call it.
KINDS = {"backend": "cache backend", "wrapper": "wrapper", "source": "source"}

Status = Literal["ok", "broken", "blocked", "conflict", "incompatible"]


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """One plugin that can be named, or one distribution that could not be loaded.

    Attributes:
        kind: ``"backend"``, ``"wrapper"`` or ``"source"``; empty where loading failed before that
            was known.
        name: How it is chosen; the name of the entry point where ``kind`` is empty.
        target: ``"package.module:attribute"``.
        distribution: Who provides it; empty for what was registered in code.
        version: The version of the distribution.
        scope: Of a backend: ``"process"``, ``"machine"`` or ``"network"``.
        status: ``"ok"``, or why it cannot be chosen.
        summary: What it is, in a line.
        reason: The status in words, where it is not ``"ok"``.
        aliases: Other names of it.
        requires: What its target needs installed.
        error: What went wrong while loading it.
        registered: The object itself, where it was registered in code.
    """

    kind: str
    name: str
    target: str
    distribution: str = ""
    version: str = ""
    scope: str = ""
    status: Status = "ok"
    summary: str = ""
    reason: str = ""
    aliases: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    error: BaseException | None = field(default=None, repr=False, compare=False)
    registered: Any = field(default=None, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it can be chosen by; none where it could not be loaded."""
        return (self.name, *self.aliases) if self.kind else ()

    @property
    def provider(self) -> str:
        """Who provides it, for messages."""
        return f"{self.distribution} {self.version}".strip() or f"this program ({self.target})"


def normalize(distribution: str) -> str:
    """Return the name of a distribution as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()
