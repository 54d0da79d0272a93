"""``exclude=``: patterns of what is left out."""

from __future__ import annotations

import json
import zipfile

import pytest

import kappacore
from kappacore.errors import InvalidOptionError, StagingError
from kappacore.staging import check_staged
from kappacore.staging.target.paths import MANIFEST
from support.staging import make_tree, pack, run_stage, tree_of

FILES = {
    "train/a/1.jpg": b"1",
    "train/a/1.tmp": b"2",
    "train/masks/1.png": b"3",
    "val/masks/2.png": b"4",
    "val/2.jpg": b"5",
    "notes.tmp": b"6",
    "[x]/3.jpg": b"7",
}
CASES = {
    "a name": ("notes.tmp", {"notes.tmp"}),
    "names": ("*.tmp", {"notes.tmp", "train/a/1.tmp"}),
    "a folder anywhere": ("masks", {"train/masks/1.png", "val/masks/2.png"}),
    "a folder, with a slash": ("masks/", {"train/masks/1.png", "val/masks/2.png"}),
    "a path": ("train/masks", {"train/masks/1.png"}),
    "from the top": ("/train", {"train/a/1.jpg", "train/a/1.tmp", "train/masks/1.png"}),
    "a star is within a name": ("train/*.tmp", set()),
    "two stars": ("train/**/*.tmp", {"train/a/1.tmp"}),
    "two stars are also no name": ("**/val", {"val/masks/2.png", "val/2.jpg"}),
    "one character": ("va?/?.jpg", {"val/2.jpg"}),
    "characters": ("[[]x]", {"[x]/3.jpg"}),
    "several": (["*.tmp", "val"], {"notes.tmp", "train/a/1.tmp", "val/masks/2.png", "val/2.jpg"}),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
@pytest.mark.parametrize(("patterns", "without"), CASES.values(), ids=CASES)
def test_what_matches_is_left_out(tmp_path, kind, patterns, without):
    source = (
        make_tree(tmp_path / "s", FILES)
        if kind == "folder"
        else pack(tmp_path / f"s.{kind}", FILES)
    )
    result = kappacore.stage(source, tmp_path / "t", exclude=patterns)
    wanted = {name: data for name, data in FILES.items() if name not in without}
    assert tree_of(result.path) == wanted
    assert result.files == len(wanted)
    assert not kappacore.stage(source, tmp_path / "t", exclude=patterns).copied
    assert {path.name for path in result.path.iterdir() if path.is_dir()} == {
        name.partition("/")[0] for name in wanted if "/" in name
    }


def test_in_a_folder_of_zip_files(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    pack(source / "train.zip", {"a/1.jpg": b"1", "a/1.tmp": b"2"})
    pack(source / "val.zip", {"a/2.jpg": b"2"})
    result = kappacore.stage(source, tmp_path / "t", exclude=["*.tmp", "val"])
    assert tree_of(result.path) == {"train/a/1.jpg": b"1"}
    assert not (result.path / "val").exists()


def test_what_is_excluded_need_not_be_readable(tmp_path):
    source = make_tree(tmp_path / "s", FILES)
    (source / "train/a/dangling.tmp").symlink_to("nowhere")
    assert kappacore.stage(source, tmp_path / "t", exclude="*.tmp").copied


def test_other_patterns_are_noticed(tmp_path):
    source, target = make_tree(tmp_path / "s", FILES), tmp_path / "t"
    kappacore.stage(source, target, exclude=["*.tmp", "val"])
    summary = json.loads((target / MANIFEST).read_text().splitlines()[-1])
    assert summary["exclude"] == ["*.tmp", "val"]
    assert not kappacore.stage(source, target, exclude=["val", "*.tmp"]).copied
    assert kappacore.stage(source, target, exclude="*.tmp").copied_files == 2
    assert kappacore.stage(source, target).copied_files == 2
    assert tree_of(target) == FILES
    kappacore.stage(source, target, exclude="*.tmp")
    assert "notes.tmp" not in tree_of(target)
    assert check_staged(target).ok


def test_a_change_of_what_is_excluded_does_not_matter(tmp_path):
    source = make_tree(tmp_path / "s", FILES)

    def log(line):
        if line.startswith("copying"):
            (source / "notes.tmp").write_bytes(b"other")

    assert kappacore.stage(source, tmp_path / "t", exclude="*.tmp", log=log).copied


def test_a_copy_by_hand_without_what_is_excluded_is_used(tmp_path):
    source = make_tree(tmp_path / "s", FILES)
    by_hand = {name: data for name, data in FILES.items() if not name.startswith("val")}
    target = make_tree(tmp_path / "t", by_hand)
    assert kappacore.stage(source, target, exclude="val").found


def test_on_the_command_line(tmp_path):
    source, target = make_tree(tmp_path / "s", FILES), tmp_path / "t"
    done = run_stage(source, target, "--exclude", "*.tmp", "--exclude", "masks")
    assert done.returncode == 0, done.stderr
    assert set(tree_of(target)) == {"train/a/1.jpg", "val/2.jpg", "[x]/3.jpg"}


def test_all_of_it(tmp_path):
    with pytest.raises(StagingError, match="has no files but for what is excluded"):
        kappacore.stage(make_tree(tmp_path / "s", FILES), tmp_path / "t", exclude="*")


@pytest.mark.parametrize(
    "patterns",
    [3, "", ["*.tmp", ""], ["/"], [b"*.tmp"], "a\0b", {"a": 1, 2: 3}, ".", "a/../b", "./"],
)
def test_what_is_no_pattern(tmp_path, patterns):
    with pytest.raises(InvalidOptionError, match="exclude="):
        kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t", exclude=patterns)


@pytest.mark.parametrize("kind", ["zip", "zips"])
def test_what_is_excluded_in_a_zip_file_may_be_anything(tmp_path, kind):
    source = tmp_path / "s" / "train.zip"
    source.parent.mkdir()
    with zipfile.ZipFile(source, "w") as archive:
        for name, mode in (("1.jpg", 0o100644), ("bad/link", 0o120777), ("BAD/c", 0o100644)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"1")
    given = source if kind == "zip" else source.parent
    result = kappacore.stage(given, tmp_path / "t", exclude=["bad", "BAD"])
    assert list(tree_of(result.path).values()) == [b"1"]


def test_paths_are_those_of_the_whole_also_where_a_part_is_staged(tmp_path):
    """Else the whole, staged by the same call, would have other files."""
    source, target = make_tree(tmp_path / "s", FILES), tmp_path / "t"
    given = ["train/masks", "/val/2.jpg", "*.tmp"]
    part = kappacore.stage(source, target, relative="train", exclude=given)
    assert tree_of(part.path) == {"a/1.jpg": b"1"}
    assert not kappacore.stage(source, target, relative="train", exclude=given).copied
    kappacore.stage(source, target, exclude=given)
    assert set(tree_of(target)) == {"train/a/1.jpg", "val/masks/2.png", "[x]/3.jpg"}


@pytest.mark.parametrize(
    "pattern", ["./train/masks", "train//masks/", "train/./masks", "/train/masks"]
)
def test_spellings_of_a_path(tmp_path, pattern):
    source = make_tree(tmp_path / "s", FILES)
    result = kappacore.stage(source, tmp_path / "t", exclude=pattern)
    assert result.files == len(FILES) - 1
