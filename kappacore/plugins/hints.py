"""What to tell somebody who asked for a plugin that is not there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from kappacore.plugins.info import KINDS, normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.plugins.info import PluginInfo

#: Kind -> name -> the distribution that provides it, for those that the project publishes.
PUBLISHED: dict[str, dict[str, str]] = {
    "backend": {
        "redis": "kappa-redis",
        "shared": "kappa-shared",
        "shared-dict": "kappa-shared",
    },
    "wrapper": {},
    "source": {"imagefolder": "kappa-imagefolder"},
}


def unknown_plugin(
    kind: str, choice: str, plugins: Sequence[PluginInfo], usable: Sequence[str]
) -> str:
    """Return the message for a name that no plugin has: what there is, and what to do."""
    from kappacore.plugins.discovery import AUTOLOAD, autoload

    name = choice.rpartition(":")[2]
    lines = [f"There is no {KINDS[kind]} {choice!r}."]
    published = PUBLISHED[kind]
    known = {each for info in plugins if info.kind == kind for each in info.names}
    close = difflib.get_close_matches(name, {*known, *published}, 1)
    if close:
        if close[0] != choice:
            lines.append(f"Did you mean {close[0]!r}?")
        distribution = published.get(close[0])
        if distribution and distribution not in {normalize(i.distribution) for i in plugins}:
            lines.append(f"{close[0]!r} comes with a plugin: `pip install {distribution}`.")
    lines.append(f"There are: {', '.join(usable) or 'none'}.")
    for info in plugins:
        if info.kind != kind and name in info.names:
            lines.append(f"{name!r} is a {KINDS[info.kind]}.")
        elif info.status == "broken":
            lines.append(f"{info.provider} could not be loaded: {info.reason}")
        elif info.status == "blocked":
            lines.append(f"{info.provider} is blocked: {info.reason}.")
    if not autoload():
        lines.append(f"{AUTOLOAD}=0 is set, so installed plugins are not looked for.")
    return " ".join(lines)
