"""Random generators that a transform keeps itself, beside the global ones."""

from __future__ import annotations

import functools
import random
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.random import mtrand

from kappacore._warn import warn
from kappacore.errors import OwnGeneratorWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OwnGenerator = np.random.Generator | np.random.RandomState | torch.Generator | random.Random

_KINDS = (np.random.Generator, np.random.RandomState, torch.Generator, random.Random)
_GLOBAL = (torch.default_generator, mtrand._rand, random._inst)
_MOST_ENTRIES = 1000
_LEAVES = (torch.Tensor, np.ndarray, types.ModuleType, type, str, bytes, int, float)

_warned: set[str] = set()


def find_generators(transform: Any) -> list[OwnGenerator]:
    """Return the generators that a transform has as attributes, each once, in their order.

    Those of transforms within it count: in attributes, lists, tuples and dicts (``Compose``), in
    an ``nn.Module``, a ``functools.partial``, the object of a bound method, a closure.
    """
    return [generator for _, generator in _search(transform, "", set())]


def seed_generator(generator: OwnGenerator, seed: int) -> None:
    """Seed a generator.

    Args:
        generator: A generator of numpy, torch or Python.
        seed: A non-negative integer.
    """
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed & 0xFFFFFFFF)
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    else:
        generator.seed(seed)


def warn_of_generators(transforms: Iterable[Any], advice: str) -> None:
    """Say once for each type of transform that its own generator draws the same in every worker.

    Args:
        transforms: The transforms.
        advice: What to do instead, as a sentence.
    """
    for transform in transforms:
        found = next(_search(transform, "", set()), None)
        kind = getattr(transform, "__qualname__", type(transform).__qualname__)
        if found is None or kind in _warned:
            continue
        _warned.add(kind)
        name, generator = found
        warn(
            f"The transform {kind} has a generator of its own ({name.lstrip('.')}, a "
            f"{type(generator).__name__}). Every worker gets a copy of it when it starts, so "
            f"all of them draw the same, and in every epoch again. {advice}",
            OwnGeneratorWarning,
        )


def _search(value: Any, name: str, met: set[int]) -> Iterator[tuple[str, OwnGenerator]]:
    """Yield the generators within a value, each with where it is."""
    if id(value) in met or isinstance(value, _LEAVES):
        return
    met.add(id(value))
    if isinstance(value, _KINDS):
        if not any(value is each for each in _GLOBAL):
            yield name, value
        return
    for key, part in _parts(value):
        yield from _search(part, f"{name}{key}", met)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple, dict)):
        if len(value) <= _MOST_ENTRIES:
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"[{key!r}]", part) for key, part in entries)
        return
    if isinstance(value, functools.partial):
        yield from ((f".{key}", getattr(value, key)) for key in ("func", "args", "keywords"))
    elif isinstance(value, types.MethodType):
        yield from _attributes(value.__self__)
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        unset = types.CellType()
        yield from ((f".{key}", cell.cell_contents) for key, cell in cells if cell != unset)
    elif callable(value):  # a transform; other objects are its data
        yield from _attributes(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    return ((f".{key}", part) for key, part in getattr(value, "__dict__", {}).items())
