"""Plugins: from a name to a class.

Installed distributions are found on first use, through their entry points of the group
``kappacore``. Listing names imports no plugin's code; choosing one imports its target.
"""

from __future__ import annotations

from kappacore._lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
