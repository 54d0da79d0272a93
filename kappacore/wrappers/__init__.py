"""Wrappers for datasets, one a file.

``__init__.pyi`` lists them; a wrapper listed there can also be chosen by name.
"""

from __future__ import annotations

from kappacore._lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
