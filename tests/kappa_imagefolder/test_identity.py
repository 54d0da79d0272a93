"""What two image folders have in common when a cache may take one for the other."""

from __future__ import annotations

import itertools
import os
import shutil

import pytest

from kappa_imagefolder import ImageFolder, UnreadableImageError, raw_image_loader
from kappa_imagefolder.identity import SAMPLED_FILES
from kappacore import CacheWrapper, ModeWrapper
from support.image_trees import make_tree, picture

FILES = ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg"]
WAYS = ["sampled", "sizes", "content"]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


def identity(root, item="x", raw=True, **options):
    return ImageFolder(root, **options).fingerprint(item, raw)


@pytest.mark.parametrize("how", WAYS)
def test_a_copy_elsewhere_is_the_same(root, tmp_path, how):
    copied = shutil.copytree(root, tmp_path / "copy")
    os.utime(copied / FILES[0], (0, 0))
    assert identity(copied, fingerprint=how) == identity(root, fingerprint=how)
    assert identity(copied, "class") == identity(root, "class")
    assert identity(copied, "path") != identity(root, "path")  # the value begins with the root


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("change", ["renamed", "added", "removed", "other class", "other content"])
def test_a_change_is_seen(root, how, change):
    before = identity(root, fingerprint=how)
    if change == "renamed":
        (root / FILES[0]).rename(root / "cat/0.jpg")
    elif change == "added":
        picture(9).save(root / "dog/9.jpg")
    elif change == "removed":
        (root / FILES[1]).unlink()
    elif change == "other class":
        (root / FILES[1]).rename(root / "dog/2.jpg")
    else:
        (root / FILES[1]).write_bytes((root / FILES[0]).read_bytes() + b"x")
    assert identity(root, fingerprint=how) != before


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_only_content_reads_every_byte_of_every_file(root):
    before = {how: identity(root, fingerprint=how) for how in WAYS}
    flip_a_byte(root / FILES[1])
    after = {how: identity(root, fingerprint=how) for how in WAYS}
    assert [how for how in WAYS if after[how] != before[how]] == ["sampled", "content"]


@pytest.mark.slow
def test_sampled_reads_64_files_evenly_spaced(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    total = 3 * SAMPLED_FILES
    for number in range(total):
        (folder / f"{number:04}.jpg").write_bytes(b"%d" % number)
    before = ImageFolder(tmp_path).fingerprint("x", raw=True)
    seen = []
    for number in range(total):
        path = folder / f"{number:04}.jpg"
        path.write_bytes(b"other")
        if ImageFolder(tmp_path).fingerprint("x", raw=True) != before:
            seen.append(number)
        path.write_bytes(b"%d" % number)
    assert len(seen) == SAMPLED_FILES
    assert (seen[0], seen[-1]) == (0, total - 1)
    assert {after - before for before, after in itertools.pairwise(seen)} == {3, 4}


def test_the_classes_are_part_of_it(root):
    class Merged(ImageFolder):
        def find_classes(self, directory):
            return ["animal"], {"cat": 0, "dog": 0}

    for item in ("x", "class"):
        assert Merged(root).fingerprint(item, raw=True) != identity(root, item)


def test_decoded_images_are_not_raw_ones_and_each_decoder_is_its_own(root):
    ways = [ImageFolder(root, decode=how).fingerprint("x") for how in ("pil", "numpy", "tensor")]
    raw = ImageFolder(root, decode="raw").fingerprint("x")
    assert len({*ways, raw}) == 4
    assert raw == identity(root)
    assert identity(root, decode="numpy") == identity(root)


def test_what_a_transform_does_is_unknown_but_the_bytes_below_it_are_known(root):
    ds = ImageFolder(root, transform=lambda image: image)
    assert ds.fingerprint("x") is None
    assert ds.fingerprint("x", raw=True) == identity(root)
    ds = ImageFolder(root, target_transform=lambda label: label)
    assert ds.fingerprint("class") is None
    assert ds.fingerprint("y") is None
    assert ds.fingerprint("x") == ImageFolder(root).fingerprint("x")


def test_what_an_own_loader_returns_is_unknown(root):
    ds = ImageFolder(root, loader=lambda path: path)
    assert ds.fingerprint("x") is None
    assert ds.fingerprint("x", raw=True) is None
    assert ds.sample_fingerprint() is None


def test_y_is_identified_as_class_and_others_are_unknown(root):
    ds = ImageFolder(root)
    assert ds.fingerprint("y") == ds.fingerprint("class") is not None
    assert ds.fingerprint("depth") is None


def test_any_name_of_a_root_can_be_part_of_it(root):
    ds = ImageFolder(root)
    ds.root = os.fsdecode(b"/data/caf\xe9")
    assert ds.fingerprint("path").isascii()


def test_a_fingerprint_is_computed_once(root):
    ds = ImageFolder(root)
    before = ds.fingerprint("x")
    for name in FILES:
        (root / name).unlink()
    assert ds.fingerprint("x") == before


def test_whole_samples_are_identified_by_image_and_class(root):
    raw = ImageFolder(root, loader=raw_image_loader)
    assert raw.sample_fingerprint() == ImageFolder(root, decode="raw").sample_fingerprint()
    assert raw.sample_fingerprint() != ImageFolder(root).sample_fingerprint()
    assert ImageFolder(root, transform=str).sample_fingerprint() is None
    assert ImageFolder(root, target_transform=str).sample_fingerprint() is None


def test_subclasses_that_change_samples_do_not_inherit_an_identity(root):
    class OtherImages(ImageFolder):
        def getitem_x(self, idx, ctx=None):
            return idx

    class OtherLabels(ImageFolder):
        def getitem_class(self, idx, ctx=None):
            return 0

    class OtherSamples(ImageFolder):
        def __getitem__(self, index):
            return super().__getitem__(index)[0]

    class OtherBatches(ImageFolder):
        def __getitems__(self, indices):
            return [0 for _ in indices]

    class OtherClasses(ImageFolder):
        def find_classes(self, directory):
            return ["dog"], {"dog": 0}

    for changed in (OtherImages, OtherLabels, OtherSamples, OtherBatches):
        assert changed(root).sample_fingerprint() is None
    assert OtherImages(root)._kd_item("x").fingerprint() is None
    assert OtherLabels(root).fingerprint("y") is None
    chosen = OtherClasses(root).sample_fingerprint()
    assert chosen is not None
    assert chosen != ImageFolder(root).sample_fingerprint()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("wrong", ["gone", "a folder", "empty"])
def test_a_file_that_cannot_be_read_is_identified_by_its_failure(root, how, wrong):
    whole = identity(root, fingerprint=how)
    path = root / FILES[2]
    path.unlink()
    if wrong == "empty":
        path.touch()
    else:
        path.symlink_to(root / "nowhere" if wrong == "gone" else "/dev/null")
    found = identity(root, fingerprint=how)
    assert found == identity(root, fingerprint=how) != whole
    path.unlink()
    picture(2).save(path)  # as it was
    assert identity(root, fingerprint=how) == whole


@pytest.mark.parametrize("how", WAYS)
def test_one_bad_file_does_not_keep_a_cache_from_opening(root, how):
    (root / FILES[0]).unlink()
    (root / FILES[0]).symlink_to(root / "nowhere")
    for options in ({}, {"form": "decoded"}):
        with CacheWrapper(ImageFolder(root, fingerprint=how), "memory", **options) as cached:
            assert ModeWrapper(cached, "x")[2].size == (48, 32)
            with pytest.raises(
                UnreadableImageError, match=r"image 0 of class 'cat', .*1\.jpg': No"
            ):
                ModeWrapper(cached, "x")[0]
