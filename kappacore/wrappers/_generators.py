"""The global random generators, seeded for a while and then as they were before.

Those of torch (CPU), Python and numpy. torch's state is quick to save, and numpy's generator to
exchange for another. Python's ``getstate`` and ``setstate`` go through a tuple of 625 integers,
which takes longer than all else together; so the 2500 bytes of the state are copied instead where
they are found to be where CPython has them.
"""

from __future__ import annotations

import _random
import ctypes
import functools
import os
import random
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from numpy.random import MT19937, mtrand

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["RandomStatesKept", "seed_generators"]

_WORDS = 624  # of a Mersenne Twister; beside them is the position in them
_SIZE = 4 * (_WORDS + 1)
_substitutes: list[MT19937] = []  # kept, as one takes long to make
_one_at_a_time = threading.RLock()


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch (CPU), Python and numpy, within the block below."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    mtrand.seed(seed & 0xFFFFFFFF)


class RandomStatesKept:
    """Let a block seed the global generators; afterwards they go on as if it had not been.

    The threads of a process take turns, for they have these generators in common.
    """

    __slots__ = ("_generator", "_python", "_second", "_substitute", "_torch")

    def __enter__(self) -> None:
        _one_at_a_time.acquire()
        try:
            self._torch = torch.default_generator.get_state()
            self._python = _save_python()
            self._generator = mtrand.get_bit_generator()
            self._second = _second_of_pair(self._generator)
            self._substitute = _substitutes.pop() if _substitutes else MT19937(0)
            mtrand.set_bit_generator(self._substitute)
        except BaseException:
            _one_at_a_time.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            mtrand.set_bit_generator(self._generator)
            if self._second is not None:
                state = mtrand.get_state(legacy=False)
                mtrand.set_state({**state, "has_gauss": 1, "gauss": self._second})
            _restore_python(self._python)
            torch.default_generator.set_state(self._torch)
            _substitutes.append(self._substitute)
        finally:
            _one_at_a_time.release()


def _forget_threads() -> None:
    """Let a forked process begin: a thread that had its turn is not in it."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


# ---- Python's


def _memory_of(generator: random.Random) -> memoryview | None:
    """Return the memory of a generator's state, or None if it is not laid out as expected."""
    start = object.__basicsize__
    rest = _random.Random.__basicsize__ - start - _SIZE
    if sys.implementation.name != "cpython" or not 0 <= rest < 8:
        return None
    memory = memoryview((ctypes.c_char * _SIZE).from_address(id(generator) + start)).cast("B")
    position, *words = struct.unpack(f"i{_WORDS}I", memory)
    return memory if (*words, position) == generator.getstate()[1] else None


_python: Any = random.random.__self__  # type: ignore[attr-defined]  # the module's own
_python_memory = _memory_of(_python)


def _save_python() -> Any:
    if _python_memory is None:
        return random.getstate()
    return bytes(_python_memory), _python.gauss_next


def _restore_python(state: Any) -> None:
    if _python_memory is None:
        random.setstate(state)
    else:
        _python_memory[:], _python.gauss_next = state


# ---- numpy's


@functools.lru_cache(maxsize=4)
def _memory_of_numpys(generator: Any) -> memoryview | None:
    """Return the memory of a generator's state, or None if it is not laid out as expected."""
    if type(generator) is not MT19937:
        return None
    address = generator.ctypes.state_address
    memory = memoryview((ctypes.c_char * _SIZE).from_address(address)).cast("B")
    *words, position = struct.unpack(f"{_WORDS}Ii", memory)
    state: Any = generator.state["state"]
    return memory if words == state["key"].tolist() and position == state["pos"] else None


def _second_of_pair(generator: Any) -> float | None:
    """Return the normal number that numpy has drawn in advance, which another generator clears.

    Normal numbers are drawn in pairs. Asking for one tells: if that changes the generator's
    state, none was waiting, and the state is put back.
    """
    memory = _memory_of_numpys(generator)
    if memory is None:
        state = mtrand.get_state(legacy=False)
        return float(state["gauss"]) if state["has_gauss"] else None
    before = bytes(memory)
    number: float = mtrand.standard_normal()
    if bytes(memory) == before:
        return number
    memory[:] = before
    return None
