"""Samplers: which samples, in which order, on which rank; one sampler a file.

The names are listed in ``__init__.pyi``.
"""

from kappacore._lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
