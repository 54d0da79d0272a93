"""What using the codec imports, and what happens where a library is missing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from kappacore.caching.codec import Codec

if TYPE_CHECKING:
    from pathlib import Path


def run(source: str, tmp_path: Path) -> str:
    """Run a program in a process of its own and return what it printed."""
    script = tmp_path / "program.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_libraries_are_imported_only_where_their_objects_are_at_hand(tmp_path: Path) -> None:
    printed = run(
        """
import sys
import kappacore
from kappacore.caching.codec import default_codec
import numpy
codec = default_codec()
for value in (b"x", (b"x", 1), {"a": [numpy.zeros(3), 1.5]}, numpy.zeros(3)):
    codec.decode(b"".join(codec.encode(value, 1)), 1)
try:
    codec.encode(object(), 1)
except kappacore.errors.UncacheableValueError:
    pass
print([name for name in ("torch", "PIL", "torchvision", "pickle5") if name in sys.modules])
""",
        tmp_path,
    )
    assert printed == "[]\n"


@pytest.mark.slow
def test_a_missing_library_is_named_and_is_not_taken_for_damage(tmp_path: Path) -> None:
    printed = run(
        """
import sys
import msgspec
from kappacore.caching.codec import default_codec
from kappacore.caching.codec.layout import seal
from kappacore.errors import CorruptValueError, MissingDependencyError

sys.modules["torchvision"] = sys.modules["PIL"] = None  # as if they were not installed
codec = default_codec()
for letter in "vI":
    stored = b"".join(seal(0, msgspec.msgpack.encode([letter]), [], 1, ""))
    for verify in (True, False):
        try:
            codec.decode(stored, 1, verify=verify)
        except MissingDependencyError as error:
            print(isinstance(error, ImportError), error)
    changed = stored[:-1] + b"?"
    damaged = stored[:48] + b"?" + stored[49:]
    for broken in (changed, damaged):
        try:
            codec.decode(broken, 1, verify=False)
        except CorruptValueError as error:
            print("corrupt")
""",
        tmp_path,
    )
    lines = printed.splitlines()
    assert len(lines) == 8
    assert lines[2:4] == lines[6:8] == ["corrupt", "corrupt"]
    assert lines[0] == lines[1]
    assert lines[0].startswith("True A cached sample holds an object of torchvision")
    assert "pip install torchvision" in lines[0]
    assert "pip install pillow" in lines[4]


@pytest.mark.slow
def test_a_tensor_is_read_by_a_process_that_had_not_imported_torch(tmp_path: Path) -> None:
    for sample in (torch.arange(3), [torch.arange(3), b"x"]):
        (tmp_path / "stored").write_bytes(b"".join(Codec().encode(sample, 1)))
        printed = run(
            f"""
import sys
from kappacore.caching.codec import default_codec
stored = open({str(tmp_path / "stored")!r}, "rb").read()
assert "torch" not in sys.modules
for _ in range(2):
    print(default_codec().decode(stored, 1))
""",
            tmp_path,
        )
        assert printed.count("tensor([0, 1, 2])") == 2
