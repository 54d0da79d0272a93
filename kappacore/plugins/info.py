"""A plugin as it is listed, before its target is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

#: Kind -> its name in messages.
KINDS = {
    "backend": "cache backend",
    "wrapper": "wrapper",
    "source": "source",
    "device": "device",
}

Status = Literal["ok", "broken", "blocked", "conflict", "incompatible"]


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """One plugin that can be chosen by name, or one distribution that could not be loaded.

    Attributes:
        kind: One of `KINDS`; empty if loading failed earlier.
        name: The name it is chosen by; that of the entry point if ``kind`` is empty.
        target: ``"package.module:attribute"``.
        distribution: The distribution that provides it; empty if it was registered in code.
        version: The version of the distribution.
        scope: Of a backend: ``"process"``, ``"machine"`` or ``"network"``.
        status: ``"ok"``, or why it cannot be chosen.
        summary: A description in one line.
        reason: An explanation of any other status than ``"ok"``.
        aliases: Its other names.
        requires: The requirements of its target.
        error: The exception raised while loading it.
        registered: The object itself, if it was registered in code.
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
        """Every name it can be chosen by; none if it could not be loaded."""
        return (self.name, *self.aliases) if self.kind else ()

    @property
    def provider(self) -> str:
        """The distribution or program that provides it, for messages."""
        return f"{self.distribution} {self.version}".strip() or f"this program ({self.target})"


def normalize(distribution: str) -> str:
    """Return the name of a distribution as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()
