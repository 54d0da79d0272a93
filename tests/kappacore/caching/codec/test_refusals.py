"""What cannot be given back exactly is refused, with the place and what to do about it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from kappacore.caching.codec import MAX_NODES, MAX_VALUE_BYTES, default_codec
from kappacore.errors import CacheError, UncacheableValueError


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Box:
    x: int


class MyDict(dict):
    pass


class MyList(list):
    pass


class MyArray(np.ndarray):
    pass


def refuse(value: Any, *parts: str) -> str:
    """Check that encoding fails with a message that has these parts; return it."""
    with pytest.raises(UncacheableValueError) as caught:
        default_codec().encode(value, 0)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


@pytest.mark.parametrize(
    "value",
    [Color.RED, Box(1), object(), len, decimal.Decimal(1), iter([]), Ellipsis, int, dt.time(1)],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    refuse(value, "sample cannot be cached", type(value).__qualname__, "register_type")


@pytest.mark.parametrize(
    "value",
    [
        Level.LOW, Point(1, 2), MyDict(), MyList(), collections.OrderedDict(),
        collections.defaultdict(list), collections.Counter(), np.zeros(1).view(MyArray),
        np.rec.array([(1,)], dtype=[("a", int)]), np.ma.masked_array([1]),
        torch.nn.Parameter(torch.zeros(1)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_subclasses_are_refused_and_not_flattened(value: Any) -> None:
    refuse(value, "a subclass of", "register_type")
    refuse({value: 1} if type(value) is Level else [value], "a subclass of")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "sample cannot"),
        ((b"", {"boxes": [1, object()]}), 'sample[1]["boxes"][1] cannot'),
        ([[[object()]]], "sample[0][0][0] cannot"),
        ({3: {None: object()}}, "sample[3][None] cannot"),
        (
            {(1, 'say "hi"'): {'say "hi"': object()}},
            "sample[(1, 'say \"hi\"')]['say \"hi\"'] cannot",
        ),
        ({"x": {Color.RED: 1}}, 'sample["x"]{a key} cannot'),
        ([{1, Color.RED}], "sample[0]{an element} cannot"),
        ([frozenset({(1, Color.RED)})], "sample[0]{an element}[1] cannot"),
        ((slice(1, object()),), "sample[0].stop cannot"),
        ({10**5000: object()}, "sample[a large int] cannot"),
        ({"k" * 1000: object()}, '..."'[:3]),
    ],
)
def test_the_message_names_the_place(value: Any, path: str) -> None:
    assert path in refuse(value)


@pytest.mark.parametrize("make", [list, dict, tuple])
def test_what_contains_itself_is_refused(make: type) -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    refuse(inner, "sample cannot be cached: it contains itself")
    outer: dict[str, Any] = {"a": [], "b": 2}
    outer["a"].append((outer, 1))
    refuse([outer], "sample[0] cannot be cached: it contains itself")


def test_depth_and_number_of_objects_are_limited() -> None:
    value: list[Any] = []
    for _ in range(64):
        value = [value]
    refuse(value, "nested more than 64 levels deep")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    refuse(deep, "nested more than 64 levels deep")
    while deep:  # one by one: freeing such a list at once overflows some interpreters' stack
        deep = deep.pop()
    refuse([None] * (MAX_NODES + 1), f"at most {MAX_NODES} objects", "array")


@pytest.mark.slow
def test_shared_references_that_unfold_without_end_are_refused() -> None:
    value: list[Any] = [object.__name__]
    for _ in range(60):
        value = [value, value]
    refuse(value, "at most")


def test_expanded_arrays_beyond_the_limit_are_refused_before_they_take_memory() -> None:
    side = MAX_VALUE_BYTES // 4 + 1
    refuse(np.broadcast_to(np.float32(1), (side,)), f"of {MAX_VALUE_BYTES} at most", "broadcast")
    refuse([torch.zeros(1).expand(side)], "sample[0]", f"of {MAX_VALUE_BYTES} at most", "expanded")


def test_text_beyond_the_limit_is_refused() -> None:
    text = "x" * 1_000_000
    refuse([text] * 300, "strings take", "keep long text as bytes")


def test_lone_surrogates_are_refused() -> None:
    for value in ("a\ud800", np.str_("a\ud800")):
        refuse([value], "sample[0]", "lone surrogate at position 1", "bytes")
    refuse({"\udcff": 1}, "lone surrogate at position 0")
    refuse(__import__("pathlib").PurePosixPath("/a/\udcff"), "lone surrogate at position 3")


def test_time_zones_with_rules_are_refused() -> None:
    zoneinfo = pytest.importorskip("zoneinfo")
    moment = dt.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))
    refuse(moment, "time zone is a zoneinfo.ZoneInfo", "astimezone")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([{}, []], object), "array of Python objects"),
        (np.zeros(1, [("a", "O")]), "array of Python objects"),
        (np.zeros(1, [("a", "O")])[0], "Python objects"),
        (np.zeros(1, np.dtype((np.record, [("a", "i4")]))), "array of records"),
    ],
)
def test_arrays_of_objects_are_refused(value: Any, reason: str) -> None:
    refuse({"x": value}, 'sample["x"]', reason)


def test_numpy_strings_of_variable_size_are_refused() -> None:
    if not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"):
        pytest.skip("this NumPy has no StringDType")
    refuse(np.array(["a", "bc"], np.dtypes.StringDType()), "sample cannot")


def test_other_subclasses_of_arrays_are_refused_with_advice() -> None:
    refuse(np.rec.array([(1, 2.0)], "i4,f8"), "recarray", "Convert it to a plain ndarray")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.zeros(2, device="meta"), "device meta"),
        (lambda: torch.eye(3).to_sparse(), "torch.sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "torch.sparse_csr"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), "quantized"),
        (lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "nested tensor"),
        (lambda: torch.zeros([1] * 65), "65 dimensions"),
    ],
    ids=["meta", "coo", "csr", "quantized", "nested", "many dimensions"],
)
def test_tensors_without_a_dense_form_are_refused_by_name(make: Any, reason: str) -> None:
    refuse({"x": make()}, 'sample["x"] cannot be cached', reason)


def test_the_error_is_one_of_the_cache_and_a_type_error() -> None:
    message = refuse(object())
    assert re.fullmatch(r"sample cannot be cached: it is a builtins\.object, .*\.", message)
    assert issubclass(UncacheableValueError, CacheError)
    assert issubclass(UncacheableValueError, TypeError)


def test_a_refusal_leaves_the_codec_as_it_was() -> None:
    codec = default_codec()
    refuse([[[object()]]])
    assert codec.decode(b"".join(codec.encode([[1]], 0)), 0) == [[1]]
