"""Types of one's own: registered, stored by name, and known to every worker."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle
import subprocess
import sys
import textwrap
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from kappacore.caching.codec import Codec, default_codec, register_type
from kappacore.errors import (
    CacheError,
    CorruptValueError,
    TypeRegistrationError,
    UncacheableValueError,
)
from support.warm import run_warm


class Split(enum.Enum):
    TRAIN = "train"
    TEST = "test"


class Flags(enum.IntFlag):
    FLIPPED = 1
    CROPPED = 2


class Size(NamedTuple):
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Box:
    corners: torch.Tensor
    split: Split
    area: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self) -> None:
        raise AssertionError("restoring calls no __init__")


class Mask:
    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]


def encode_mask(mask: Mask) -> np.ndarray[Any, Any]:
    return np.array(mask.rows)


def decode_mask(rows: np.ndarray[Any, Any]) -> Mask:
    return Mask(rows.tolist())


def failing(plain: Any) -> Any:
    raise ZeroDivisionError("no such mask")


def wrong_type(plain: Any) -> Any:
    return [plain]


@pytest.fixture
def codec() -> Codec:
    """A codec of its own, so that tests share no registrations."""
    return Codec()


def there_and_back(codec: Codec, value: Any, **options: Any) -> Any:
    return codec.decode(b"".join(codec.encode(value, 1)), 1, **options)


def test_a_registered_type_comes_back_at_any_depth(codec: Codec) -> None:
    codec.register_type(Mask, encode_mask, decode_mask)
    value = {"masks": [Mask([1, 2]), (Mask([]),)], "label": 3}
    for options in ({}, {"copy": False}):
        back = there_and_back(codec, value, **options)
        assert back == value
        assert type(back["masks"][0]) is Mask


def test_enums_namedtuples_and_dataclasses_need_no_functions(codec: Codec) -> None:
    for cls in (Split, Flags, Size, Box):
        codec.register_type(cls)
    box: Any = object.__new__(Box)
    for name, value in (("corners", torch.ones(4)), ("split", Split.TEST), ("area", 2.5)):
        object.__setattr__(box, name, value)
    both = Flags.FLIPPED | Flags.CROPPED
    sample = [Split.TRAIN, Size(3, 4), box, Flags.CROPPED, both, {Split.TEST: {Size(1, 2)}}]
    back = there_and_back(codec, sample)
    assert back[0] is Split.TRAIN
    assert type(back[1]) is Size
    assert back[1] == Size(3, 4)
    assert type(back[2]) is Box
    assert torch.equal(back[2].corners, box.corners)
    assert back[2].split is Split.TEST
    assert back[2].area == 2.5
    assert back[3] is Flags.CROPPED
    assert back[4] == both
    assert type(back[4]) is Flags
    assert back[5] == {Split.TEST: {Size(1, 2)}}


def test_a_subclass_of_a_registered_type_is_refused(codec: Codec) -> None:
    class FineMask(Mask):
        pass

    codec.register_type(Mask, encode_mask, decode_mask)
    with pytest.raises(UncacheableValueError, match="FineMask"):
        codec.encode(FineMask([1]), 0)


def test_a_reader_that_lacks_the_type_takes_the_value_for_a_miss_that_says_so(codec: Codec) -> None:
    codec.register_type(Split, name="split")
    stored = b"".join(codec.encode([Split.TRAIN], 1))
    with pytest.raises(
        CorruptValueError, match=r"'split', which is not registered here.*register_type"
    ):
        Codec().decode(stored, 1)


def test_a_value_of_an_earlier_class_is_a_miss() -> None:
    old, new = Codec(), Codec()
    earlier_box = dataclasses.make_dataclass("Box", ["x", "y"])
    old.register_type(earlier_box, name="box")
    new.register_type(Box, name="box")
    stored = b"".join(old.encode(earlier_box(1, 2), 1))
    with pytest.raises(CorruptValueError, match=r"'box' raised .*fields \['x', 'y'\]"):
        new.decode(stored, 1)
    earlier_split: Any = enum.Enum("Split", "TRAIN OLD")
    old.register_type(earlier_split, name="split")
    new.register_type(Split, name="split")
    stored = b"".join(old.encode(earlier_split.OLD, 1))
    with pytest.raises(CorruptValueError, match="'split' raised KeyError"):
        new.decode(stored, 1)


def test_failing_functions_are_named(codec: Codec) -> None:
    codec.register_type(Mask, failing, decode_mask, name="mask")
    with pytest.raises(
        UncacheableValueError, match=r"sample\[0\].*'mask' raised ZeroDivision"
    ) as one:
        codec.encode([Mask([1])], 0)
    assert isinstance(one.value.__cause__, ZeroDivisionError)
    for decode, reason in (
        (failing, "raised ZeroDivisionError"),
        (wrong_type, "returned a list instead of a Mask"),
    ):
        other = Codec()
        other.register_type(Mask, encode_mask, decode, name="mask")
        stored = bytearray(b"".join(other.encode(Mask([1]), 0)))
        with pytest.raises(TypeRegistrationError, match=f"is intact, but .*'mask' {reason}"):
            other.decode(stored, 0)
        stored[30] ^= 1  # the digest covers it: now the bytes may be to blame
        with pytest.raises(CorruptValueError):
            other.decode(stored, 0, verify=False)


def test_what_an_encoder_returns_is_checked_too(codec: Codec) -> None:
    codec.register_type(Mask, lambda mask: [1, mask.rows[0]], decode_mask, name="mask")
    with pytest.raises(UncacheableValueError, match=r"sample\[0\]\[1\] cannot.*builtins.object"):
        codec.encode([Mask([object()])], 0)  # type: ignore[list-item]
    mask = Mask([])
    mask.rows.append(mask)  # type: ignore[arg-type]
    with pytest.raises(UncacheableValueError, match="contains itself"):
        codec.encode(mask, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Mask,), "Mask is neither an enum, a namedtuple nor a dataclass"),
        ((Mask, encode_mask), "needs both functions"),
        ((Mask, None, decode_mask), "needs both functions"),
        ((Mask, "encode", decode_mask), "needs both functions"),
        ((Mask([1]), encode_mask, decode_mask), "takes a class, not <"),
        ((dict, encode_mask, decode_mask), "dict is kept exactly as it is"),
        ((np.ndarray, encode_mask, decode_mask), "ndarray is kept exactly as it is"),
        ((torch.Tensor, encode_mask, decode_mask), "Tensor is kept exactly as it is"),
    ],
)
def test_registrations_that_make_no_sense(codec: Codec, arguments: Any, message: str) -> None:
    with pytest.raises(TypeRegistrationError, match=message):
        codec.register_type(*arguments)
    assert issubclass(TypeRegistrationError, CacheError)


def test_names_are_strings_and_taken_once(codec: Codec) -> None:
    with pytest.raises(TypeRegistrationError, match="a string, not 3"):
        codec.register_type(Split, name=3)  # type: ignore[arg-type]
    codec.register_type(Split, name="split")
    codec.register_type(Split, name="split")
    with pytest.raises(TypeRegistrationError, match="Split is registered as 'split' already"):
        codec.register_type(Size, name="split")
    with pytest.raises(TypeRegistrationError, match="Split is registered as 'split' already"):
        codec.register_type(Split, name="other")
    codec.register_type(Mask, encode_mask, decode_mask)
    with pytest.raises(TypeRegistrationError, match="with other functions"):
        codec.register_type(Mask, encode_mask, wrong_type)


def test_a_notebook_cell_may_run_again(codec: Codec) -> None:
    source = "import enum\nclass Mode(enum.Enum):\n    A = 1\n"
    for _ in range(2):
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(source, space)
        codec.register_type(space["Mode"])
    assert there_and_back(codec, space["Mode"].A) is space["Mode"].A


# ---- workers


def test_a_pickled_codec_knows_its_types_again(codec: Codec) -> None:
    codec.register_type(Mask, encode_mask, decode_mask)
    codec.register_type(Split, name="split")
    for other in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert other is not codec
        assert there_and_back(other, [Mask([1]), Split.TEST]) == [Mask([1]), Split.TEST]
        assert other.decode(b"".join(codec.encode(Split.TEST, 1)), 1) is Split.TEST
    assert len(pickle.dumps(Codec())) < 100


def test_the_codec_of_the_process_stays_one() -> None:
    assert pickle.loads(pickle.dumps(default_codec())) is default_codec()
    assert copy.deepcopy(default_codec()) is default_codec()


def test_what_a_worker_cannot_import_is_refused_when_pickled() -> None:
    class Local(enum.Enum):
        A = 1

    for arguments in (
        (Mask, lambda mask: mask.rows, decode_mask),
        (Mask, encode_mask, lambda rows: Mask(rows)),
        (Local,),
        (Mask, Mask([1]).__eq__, decode_mask),
    ):
        codec = Codec()
        codec.register_type(*arguments, name="local")
        with pytest.raises(
            TypeRegistrationError, match="registered as 'local' cannot be sent to a worker"
        ) as caught:
            pickle.dumps(codec)
        assert "top level of a module" in str(caught.value)


CLASS = """
class Boxes:
    def __init__(self, corners):
        self.corners = corners
"""

SCRIPT = '''
import sys
import torch
from torch.utils.data import DataLoader, Dataset
from kappacore.caching.codec import default_codec, register_type

{the_class}
def encode_boxes(boxes):
    return boxes.corners

def decode_boxes(corners):
    return Boxes(corners)

class Cached(Dataset):
    """Decodes in the workers what the parent encoded, and the other way round."""

    def __init__(self):
        self.codec = default_codec()
        samples = [[Boxes(torch.full((2,), i))] for i in range(4)]
        self.values = [b"".join(self.codec.encode(x, i)) for i, x in enumerate(samples)]

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        [boxes] = self.codec.decode(self.values[index], index)
        return b"".join(self.codec.encode([Boxes(boxes.corners + 1)], index))

if __name__ == "__main__":
    register_type(Boxes, encode_boxes, decode_boxes)
    options = {{"num_workers": 1, "multiprocessing_context": sys.argv[1]}}
    loader = DataLoader(Cached(), batch_size=None, **options)
    for index, stored in enumerate(loader):
        [boxes] = default_codec().decode(stored, index)
        print(type(boxes).__name__, boxes.corners.tolist())
'''


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_know_types_that_only_the_parent_registered(tmp_path: Any, start: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(the_class=CLASS))
    done = run_warm(script, start)
    assert done.stdout.split("\n")[:4] == [f"Boxes [{i + 1}, {i + 1}]" for i in range(4)], (
        done.stderr
    )


@pytest.mark.slow
def test_a_class_under_the_main_guard_fails_in_the_worker_with_the_reason(tmp_path: Any) -> None:
    script = tmp_path / "train.py"
    guarded = 'if __name__ == "__main__":' + textwrap.indent(CLASS, "    ")
    script.write_text(SCRIPT.format(the_class=guarded))
    done = run_warm(script, "spawn")
    assert done.returncode != 0
    assert "cannot be used in this process: '__main__:Boxes' cannot be found" in done.stderr
    assert "not below `if __name__" in done.stderr


def test_the_module_level_function_registers_with_the_codec_of_the_process(tmp_path: Any) -> None:
    script = tmp_path / "one.py"
    script.write_text(
        "import enum\n"
        "from kappacore.caching.codec import default_codec, register_type\n"
        "class Split(enum.Enum):\n    A = 1\n"
        "register_type(Split, name='split')\n"
        "codec = default_codec()\n"
        "assert codec.decode(b''.join(codec.encode(Split.A, 1)), 1) is Split.A\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=250)
    assert register_type.__doc__
