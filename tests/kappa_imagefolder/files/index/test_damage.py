"""An index that is not what its readers expect: damaged, made by hand, half written, replaced."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import xxhash

from kappa_imagefolder import ImageFolder, IndexFileError
from support.image_indices import CHECKS, FILES, assert_same, change
from support.image_trees import make_tree, picture


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"something else entirely" * 10,
        lambda data: data[:20],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: data[:7] + b"\x01" + data[8:],
    ],
    ids=["empty", "foreign", "cut", "half", "shorter", "longer", "header", "version"],
)
def test_a_damaged_or_foreign_index_is_made_anew(root, damage, check, caplog):
    path = Path(ImageFolder(root, index=True).index_path)
    data = path.read_bytes()
    path.write_bytes(damage(data))
    time.sleep(0.02)
    assert_same(ImageFolder(root, index=True, index_check=check), ImageFolder(root))
    assert "it will be replaced" in caplog.text
    assert path.read_bytes() == data


@pytest.mark.parametrize("check", ["dirs", "full"])
def test_every_byte_of_the_files_names_is_checked_unless_trusted(root, check):
    path = Path(ImageFolder(root, index=True).index_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"cat/1.jpg", b"cat/2.jpg"))
    assert_same(ImageFolder(root, index=True, index_check=check), ImageFolder(root))
    assert path.read_bytes() == data


def test_what_a_killed_writer_left_is_removed_by_a_later_one(root):
    path = ImageFolder(root, index=True).index_path
    old, fresh = Path(f"{path}.0011aabb.part"), Path(f"{path}.2233ccdd.part")
    for part in (old, fresh):
        part.write_bytes(b"half an index")
    os.utime(old, (0, 0))
    change(lambda: picture(9).save(root / "dog/9.jpg"))
    ImageFolder(root, index=True)
    assert not old.exists()
    assert fresh.exists()  # somebody may be writing it


def rewritten(data, edit):
    """Return an index whose header was changed by ``edit`` and says that it is sound."""
    length = int.from_bytes(data[8:16], "little")
    header = json.loads(data[32 : 32 + length])
    header = edit(header) or header
    text = json.dumps(header).encode()
    text += b" " * (-(32 + len(text)) % 64)
    start = data[:8] + len(text).to_bytes(8, "little") + xxhash.xxh3_128_digest(text)
    return start + text + data[32 + length :]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "edit",
    [
        lambda header: [1],
        lambda header: header.update(purpose=None),
        lambda header: header.update(lengths=[1]),
        lambda header: header["lengths"].pop("paths") and None,
        lambda header: header["lengths"].pop("times") and None,
        lambda header: header["lengths"].update(labels=2**70),
        lambda header: header["lengths"].update(labels=-1),
        lambda header: header["lengths"].update(labels="5"),
        lambda header: header["lengths"].update(labels=4),
        lambda header: header["lengths"].update(offsets=5),
        lambda header: header["lengths"].update(times=7),
        lambda header: header["lengths"].update(labels=7, times=7),
        lambda header: header["lengths"].update(labels=6, times=header["lengths"]["times"] - 1),
        lambda header: header.pop("classes") and None,
        lambda header: header.update(class_to_idx=[]),
        lambda header: header.pop("empty") and None,
    ],
)
def test_an_index_made_by_hand_is_made_anew(root, edit, check, caplog):
    path = Path(ImageFolder(root, index=True).index_path)
    data = path.read_bytes()
    path.write_bytes(rewritten(data, edit))
    time.sleep(0.02)
    assert_same(ImageFolder(root, index=True, index_check=check), ImageFolder(root))
    assert "is damaged" in caplog.text
    assert path.read_bytes() == data


def test_a_file_that_is_no_index_is_not_replaced_where_the_user_names_it(root, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("dear to me")
    message = rf"'{path}' is not an index; it is left as it is. Give index="
    for check in CHECKS:
        with pytest.raises(IndexFileError, match=message):
            ImageFolder(root, index=path, index_check=check)
    assert path.read_text() == "dear to me"


def test_a_pipe_is_not_waited_for(root, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(
        IndexFileError, match=r"pipe' is not a regular file, and so not an index; it is left"
    ):
        ImageFolder(root, index=path)


def test_other_files_that_are_being_written_are_nobodys_business(root, tmp_path):
    part = tmp_path / "train.zip.part"
    part.write_bytes(b"half a download")
    os.utime(part, (0, 0))
    ImageFolder(root, index=tmp_path / "train")
    assert part.exists()


def test_an_index_that_another_process_wrote_at_once_is_not_taken(root, tmp_path, monkeypatch):
    """Of two folders that are given the same path for their indices, each gets its own files."""
    other, path = make_tree(tmp_path / "other", FILES[:2]), tmp_path / "x.index"
    ImageFolder(other, index=tmp_path / "theirs")
    replace = os.replace

    def both(source, target):
        replace(source, target)
        replace(tmp_path / "theirs", target)

    monkeypatch.setattr(os, "replace", both)
    assert_same(ImageFolder(root, index=path), ImageFolder(root))
