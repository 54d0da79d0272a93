"""Archives with random damage: nothing but our own errors, and nothing outside of the target.

KAPPACORE_FUZZ=20000 tries that many of each kind.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import tarfile
import zipfile

import pytest

import kappacore
from kappacore.errors import KappaError
from support.staging import pack, zstd

FILES = {
    "train/a/1.jpg": b"one" * 100,
    "train/b/2.jpg": b"",
    "labels.csv": b"1,2,3\n" * 30,
    "train/" + "long" * 40 + ".jpg": b"x",
}
ROUNDS = int(os.environ.get("KAPPACORE_FUZZ", "60"))
VALUES = [b"\0", b"\xff", b"\x80", b"/", b"..", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f" * 4]
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}
TARS = ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "links.tar"]
KINDS = [*(f"{method}.zip" for method in METHODS), *TARS]
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return data with some bytes changed, removed, repeated or exchanged."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(len(changed) or 1)
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                value = chance.choice(VALUES)
                changed[at : at + len(value)] = value
            case 2:
                del changed[at : at + chance.randrange(1, 40)]
            case 3:
                changed[at:at] = changed[at : at + chance.randrange(1, 600)]
            case 4:
                there = chance.randrange(len(changed) or 1)
                changed[at : at + 20] = changed[there : there + 20]
            case 5:
                del changed[at:]
    return bytes(changed)


def original(folder, kind):
    path = pack(folder / kind, FILES, METHODS.get(kind.partition(".")[0], zipfile.ZIP_STORED))
    if kind.startswith("links"):
        with tarfile.open(path, "a") as tar:
            for name, to in (("train/a/2.jpg", "1.jpg"), ("val", "train"), ("3", "train/a/2.jpg")):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, to
                tar.addfile(member)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(0 if ROUNDS > 1000 else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_our_own_error_and_stays_inside(tmp_path, kind):
    data = original(tmp_path, kind)
    packing = kind.rpartition(".")[2]
    inner = original(tmp_path, "a.tar") if packing in PACK else None
    base = tmp_path / "local"
    base.mkdir()
    for seed in range(ROUNDS):
        chance = random.Random(f"{kind}{seed}")
        if inner is not None and seed % 4:  # else hardly any gets through to the headers
            broken = PACK[packing](mutated(inner, chance))
        else:
            broken = mutated(data, chance)
        source, target = tmp_path / "archive", base / str(seed)
        source.write_bytes(broken)
        try:
            kappacore.stage(source, target, workers=1, progress=False)
        except KappaError as error:
            assert str(error)  # noqa: PT017
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
    assert {name for name in os.listdir(base) if not name.startswith(".")} <= {  # noqa: PTH208
        str(seed) for seed in range(ROUNDS)
    }
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "local", kind, "a.tar"}
