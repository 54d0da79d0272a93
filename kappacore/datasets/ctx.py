"""The ``ctx`` of a sample: a dict that all its items and transforms share."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Sequence
from typing import Any

from torch import nn

#: What the items of one sample leave for each other, by name: a dict that ``ModeWrapper`` makes.
Ctx = dict[str, Any]
Ctxs = Sequence[Ctx | None]


class SampleCtx(dict[str, Any]):
    """The ctx that :class:`ModeWrapper` makes for each sample.

    Besides its keys it can hold the samples read for it, so that a dataset of whole samples reads
    each of them once, however many of its items are wanted. A copy or pickle is a plain dict.
    """

    #: Samples read so far, by (dataset, index); None until a dataset keeps one.
    reads: dict[tuple[Any, int], Any] | None = None

    def __reduce__(self) -> tuple[type, tuple[Ctx]]:
        return dict, (dict(self),)


def takes_ctx(fn: Any, name: str = "ctx") -> bool:
    """Return whether ``fn`` accepts the keyword argument ``ctx``.

    Args:
        fn: A function, a callable object, a ``functools.partial`` or an ``nn.Module``, whose
            ``forward`` counts. None accepts nothing.
        name: The parameter to look for.

    Returns:
        True if ``fn`` has a parameter of that name. ``**kwargs`` does not count, nor does a
        parameter that a partial has already bound, nor an unreadable signature.
    """
    if fn is None:
        return False
    if isinstance(fn, types.MethodType) and not _rewritten(fn.__func__):
        fn = fn.__func__
    if isinstance(fn, types.FunctionType) and not _rewritten(fn):  # 30 times as fast as inspect
        code = fn.__code__
        last = code.co_argcount + code.co_kwonlyargcount
        return name in code.co_varnames[code.co_posonlyargcount : last]
    if isinstance(fn, functools.partial):
        if name in fn.keywords:
            return False
        if isinstance(fn.func, nn.Module):
            fn = functools.partial(fn.func.forward, *fn.args, **fn.keywords)
    elif isinstance(fn, nn.Module):
        fn = fn.forward
    try:
        parameter = inspect.signature(fn).parameters.get(name)
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )


def _rewritten(fn: Any) -> bool:
    """Return whether a decorator declares another signature than that of the code."""
    return hasattr(fn, "__wrapped__") or hasattr(fn, "__signature__")
