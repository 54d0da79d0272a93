"""Links, duplicates and labels in tar files: as tar does, within the target only."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest

import kappacore
from kappacore.errors import StagingError, UnsafeArchiveError
from kappacore.staging import ArchiveLimits, check_staged
from kappacore.staging.sources import unpacking
from support.staging import make_tree, run_stage, tree_of

SUFFIXES = ["tar", "tar.gz"]


def pack(path, *members):
    """Write a tar file of (name, content) or (name, kind, link)."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, *rest in members:
            member = tarfile.TarInfo(name)
            if len(rest) == 1:
                member.size = len(rest[0])
                archive.addfile(member, io.BytesIO(rest[0]))
            else:
                member.type, member.linkname = rest
                archive.addfile(member)
    return path


HARD, SOFT, FOLDER = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
LINKS = {
    "hard": ([("a/1", b"one"), ("b/2", HARD, "a/1")], {"a/1": b"one", "b/2": b"one"}),
    "hard, twice": (
        [("1", b"one"), ("2", HARD, "1"), ("3", HARD, "./2")],
        {"1": b"one", "2": b"one", "3": b"one"},
    ),
    "soft": ([("a/1", b"one"), ("b/2", SOFT, "../a/1")], {"a/1": b"one", "b/2": b"one"}),
    "soft, before its target": ([("2", SOFT, "1"), ("1", b"one")], {"1": b"one", "2": b"one"}),
    "soft, to a link": (
        [("3", SOFT, "2"), ("2", SOFT, "./1"), ("1", b"one")],
        {"1": b"one", "2": b"one", "3": b"one"},
    ),
    "to a folder": (
        [("a/b/1", b"one"), ("a/2", b"two"), ("c", SOFT, "a")],
        {"a/b/1": b"one", "a/2": b"two", "c/b/1": b"one", "c/2": b"two"},
    ),
    "through a folder that is a link": (
        [("a/1", b"one"), ("b", SOFT, "a"), ("2", SOFT, "b/1")],
        {"a/1": b"one", "b/1": b"one", "2": b"one"},
    ),
    "in a folder that is linked": (
        [("a/1", b"one"), ("a/2", SOFT, "1"), ("b", SOFT, "a")],
        {"a/1": b"one", "a/2": b"one", "b/1": b"one", "b/2": b"one"},
    ),
    "hard, to a soft one": (
        [("1", b"one"), ("2", SOFT, "1"), ("3", HARD, "2")],
        {"1": b"one", "2": b"one", "3": b"one"},
    ),
    "twice: the last counts": ([("1", b"old"), ("./1", b"newer")], {"1": b"newer"}),
    "a link to what came before": (
        [("1", b"old"), ("2", HARD, "1"), ("1", b"newer")],
        {"1": b"newer", "2": b"old"},
    ),
    "a file instead of a link": (
        [("1", b"one"), ("2", SOFT, "1"), ("2", b"two")],
        {"1": b"one", "2": b"two"},
    ),
    "a label": ([("my backup", b"V", ""), ("1", b"one")], {"1": b"one"}),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("members", "files"), LINKS.values(), ids=LINKS)
def test_they_come_out_as_files(tmp_path, members, files, suffix):
    source = pack(tmp_path / f"a.{suffix}", *members)
    for verify in ("size", "reread"):
        target = kappacore.stage(source, tmp_path / verify, verify=verify).path
        assert tree_of(target) == files
        assert not any(path.is_symlink() for path in target.rglob("*"))
        assert check_staged(target).ok
    os.utime(source)
    assert not kappacore.stage(source, tmp_path / "size").copied


REFUSED = {
    "outside": [("a/2", SOFT, "../../evil")],
    "outside, by a link": [("a", SOFT, "."), ("b", SOFT, "a/../../evil")],
    "absolute": [("2", SOFT, "/etc/passwd")],
    "hard, outside": [("2", HARD, "../evil")],
    "hard, absolute": [("2", HARD, "/etc/passwd")],
    "to nothing": [("2", SOFT, "1")],
    "hard, to nothing": [("2", HARD, "1"), ("1", b"one")],
    "hard, to a folder": [("a/1", b"one"), ("2", HARD, "a")],
    "to itself": [("2", SOFT, "2")],
    "in a circle": [("1", SOFT, "2"), ("2", SOFT, "1")],
    "to a folder that contains it": [("a/1", b"one"), ("a/b/c", SOFT, "..")],
    "to the top": [("1", b"one"), ("a", SOFT, ".")],
    "folders in a circle": [
        ("a/1", b"x"), ("b/2", b"x"), ("a/l", SOFT, "../b"), ("b/l", SOFT, "../a"),
    ],
    "a file in a link to a folder": [("a/1", b"x"), ("l", SOFT, "a"), ("l/evil", b"x")],
    "a file in a link to a file": [("a", b"x"), ("l", SOFT, "a"), ("l/evil", b"x")],
    "a file, then a folder": [("a", b"x"), ("a/b", b"x")],
    "a device": [("a", tarfile.CHRTYPE, "")],
}  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_what_leads_elsewhere_is_refused(tmp_path, members, suffix):
    (tmp_path / "evil").write_bytes(b"precious")
    (tmp_path / "local").mkdir()
    source = pack(tmp_path / f"a.{suffix}", *members)
    with pytest.raises(UnsafeArchiveError, match="has a member '"):
        kappacore.stage(source, tmp_path / "local" / "t")
    assert tree_of(tmp_path / "local") == {}
    assert (tmp_path / "evil").read_bytes() == b"precious"


def test_links_count_as_what_they_unpack_to(tmp_path):
    links = [(f"{number}", HARD, "0") for number in range(1, 100)]
    source = pack(tmp_path / "a.tar", ("0", b"x" * 1000), *links)
    with pytest.raises(UnsafeArchiveError, match="more than 50000"):
        kappacore.stage(source, tmp_path / "t", limits=ArchiveLimits(max_bytes=50_000))
    with pytest.raises(UnsafeArchiveError, match="more than 40 members"):
        kappacore.stage(source, tmp_path / "t", limits=ArchiveLimits(max_members=40))


@pytest.mark.slow
def test_folders_that_double_at_each_level_are_refused(tmp_path):
    members = [("0/1.jpg", b"")]
    for level in range(1, 60):
        members += [(f"{level}/{side}", SOFT, f"../{level - 1}") for side in "ab"]
    source = pack(tmp_path / "a.tar", *members)
    with pytest.raises(UnsafeArchiveError, match="links to folders"):
        kappacore.stage(source, tmp_path / "t")


def test_many_links_in_a_compressed_file_do_not_read_it_again_and_again(tmp_path, monkeypatch):
    links = [(f"l/{number}", HARD, "big") for number in range(50)]
    source = pack(
        tmp_path / "a.tar.gz", ("first", os.urandom(200_000)), ("big", b"x" * 10_000), *links
    )
    begun = []
    begin = unpacking._Unpacked._begin

    def counted(self):
        begun.append(getattr(self, "_at", 0))
        begin(self)

    monkeypatch.setattr(unpacking._Unpacked, "_begin", counted)
    target = kappacore.stage(source, tmp_path / "t").path
    assert (target / "l" / "49").read_bytes() == b"x" * 10_000
    assert len(list(filter(None, begun))) == 1  # after the listing


def test_what_tar_itself_packed(tmp_path):
    source = make_tree(tmp_path / "s", {"a/1.jpg": b"one", "b.csv": b"old"})
    os.link(source / "a/1.jpg", source / "a/2.jpg")
    (source / "c").symlink_to("a")
    tar = tmp_path / "a.tar"
    run = {"cwd": source, "check": True}
    subprocess.run(["tar", "-cf", tar, "--label=backup", "."], **run)
    (source / "b.csv").write_bytes(b"newer")
    subprocess.run(["tar", "-rf", tar, "./b.csv"], **run)
    target = kappacore.stage(tar, tmp_path / "t").path
    assert tree_of(target) == {
        "a/1.jpg": b"one", "a/2.jpg": b"one", "b.csv": b"newer",
        "c/1.jpg": b"one", "c/2.jpg": b"one",
    }  # fmt: skip


def test_names_that_differ_in_case_only_are_an_option(tmp_path):
    source = pack(tmp_path / "a.tar", ("Photo.jpg", b"1"), ("photo.JPG", b"2"))
    with pytest.raises(UnsafeArchiveError, match=r"ArchiveLimits\(similar_names=True\)"):
        kappacore.stage(source, tmp_path / "t")
    limits = ArchiveLimits(similar_names=True)
    target = kappacore.stage(source, tmp_path / "t", limits=limits).path
    assert tree_of(target) == {"Photo.jpg": b"1", "photo.JPG": b"2"}
    done = run_stage(source, tmp_path / "u", "--similar-names")
    assert done.returncode == 0, done.stderr
    with pytest.raises(StagingError):
        kappacore.stage(pack(tmp_path / "b.tar", ("1", b""), ("2", SOFT, "3")), tmp_path / "v")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_excluded_may_be_anything(tmp_path, suffix):
    """As in a folder."""
    source = pack(
        tmp_path / f"a.{suffix}",
        ("1", b"one"),
        ("bad/nowhere", SOFT, "nowhere"),
        ("bad/out", SOFT, "/etc/passwd"),
        ("bad/hard", HARD, "../x"),
        ("bad/pipe", tarfile.FIFOTYPE, ""),
        ("bad/c", b"c"),
        ("bad/C", b"C"),
        ("2", SOFT, "bad/c"),
    )
    result = kappacore.stage(source, tmp_path / "t", exclude="bad")
    assert tree_of(result.path) == {"1": b"one", "2": b"c"}
    with pytest.raises(UnsafeArchiveError):
        kappacore.stage(source, tmp_path / "u", exclude="bad/c")
