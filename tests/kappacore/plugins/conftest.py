from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from support import fake_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``install("ok", "blocked")`` installs fake distributions for one test."""
    monkeypatch.delenv("KAPPACORE_DISABLE_PLUGINS", raising=False)
    monkeypatch.delenv("KAPPACORE_PLUGIN_AUTOLOAD", raising=False)
    with contextlib.ExitStack() as stack:
        stack.enter_context(fake_plugins.installed())
        yield lambda *names: stack.enter_context(fake_plugins.installed(*names))
