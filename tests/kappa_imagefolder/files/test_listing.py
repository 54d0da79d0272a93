"""The packed sequences behave like the lists that they stand for."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from kappa_imagefolder import FixedAttributeError
from kappa_imagefolder.files.listing import Samples, Targets, pack
from kappacore.errors import IndexOutOfRangeError, InvalidIndexError

NAMES = ["cat/1.jpg", "cat/größe.jpg", "dog/caf\udce9.jpg", "dog/🐕.png"]
LABELS = np.array([0, 0, 1, 1], dtype=np.int32)
LIST = [(f"/data/{name}", label) for name, label in zip(NAMES, LABELS.tolist(), strict=True)]


def samples():
    return Samples(replace(pack(NAMES), root="/data"), LABELS)


def test_samples_equal_a_list_of_tuples():
    assert samples() == LIST
    assert samples() == LIST
    assert samples() == samples()
    assert list(samples()) == LIST
    assert samples() != LIST[:-1]
    assert samples() != [*LIST[:-1], ("other", 1)]
    assert samples() != tuple(LIST)
    assert len(samples()) == 4


def test_samples_are_indexed_sliced_and_searched_as_a_list():
    assert samples()[0] == LIST[0]
    assert samples()[-1] == LIST[-1]
    assert samples()[np.int64(2)] == LIST[2]
    assert samples()[1:3] == LIST[1:3]
    assert samples()[::-1] == LIST[::-1]
    assert LIST[2] in samples()
    assert samples().index(LIST[2]) == 2
    assert [type(part) for part in samples()[0]] == [str, int]
    assert list(reversed(samples())) == LIST[::-1]


def test_samples_are_joined_as_lists():
    for joined in (samples() + samples(), samples() + LIST, LIST + samples()):
        assert type(joined) is list
        assert joined == LIST + LIST
    with pytest.raises(TypeError):
        samples() + tuple(LIST)


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_past_the_end_says_how_many_there_are(index):
    with pytest.raises(IndexOutOfRangeError, match=rf"{index} is out of range for Samples of 4"):
        samples()[index]


def test_an_index_that_is_no_integer_is_refused():
    with pytest.raises(
        InvalidIndexError, match=r"Samples is indexed by integers or slices; got '1' \(str\)"
    ):
        samples()["1"]


def test_a_long_sequence_is_shown_short():
    targets = Targets(np.zeros(1000, dtype=np.int32))
    assert repr(targets) == "[0, 0, 0, … 1000 in all]"
    assert repr(Targets(LABELS[:2])) == "[0, 0]"


def test_targets_equal_a_list_and_turn_into_arrays_and_tensors():
    targets = Targets(LABELS)
    assert targets == [0, 0, 1, 1]
    assert targets.count(1) == 2
    assert np.asarray(targets).dtype == np.int64
    assert np.array(targets, dtype=np.uint8).tolist() == [0, 0, 1, 1]
    assert torch.tensor(targets).tolist() == [0, 0, 1, 1]
    assert torch.tensor(targets).dtype == torch.int64
    array = np.asarray(targets)
    array[:] = 9
    assert targets == [0, 0, 1, 1]


def test_targets_are_a_list_that_json_can_write():
    targets = Targets(np.array([3, 3, 2000, 0], np.int32))
    for indent in (None, 2):
        assert json.loads(json.dumps({"y": targets}, indent=indent)) == {"y": [3, 3, 2000, 0]}
    assert [type(label) for label in targets] == [int] * 4
    assert targets[1:] == [3, 2000, 0]
    more = [1]
    assert targets + more == [3, 3, 2000, 0, 1]
    assert more + targets == [1, 3, 3, 2000, 0]
    assert json.dumps(Targets(LABELS[:0])) == "[]"
    for sent in (pickle.loads(pickle.dumps(targets)), copy.deepcopy(targets)):
        assert (type(sent), sent) == (Targets, targets)


def test_targets_are_not_changed_without_a_word():
    targets = Targets(LABELS)
    changes = [
        lambda: targets.append(1),
        lambda: targets.extend([1]),
        lambda: targets.insert(0, 1),
        lambda: targets.pop(),
        lambda: targets.remove(0),
        lambda: targets.clear(),
        lambda: targets.sort(key=lambda label: -label),
        lambda: targets.reverse(),
        lambda: targets.__setitem__(0, 1),
        lambda: targets.__delitem__(0),
        lambda: targets.__iadd__([1]),
        lambda: targets.__imul__(2),
    ]
    for change in changes:
        with pytest.raises(FixedAttributeError, match="targets cannot be changed"):
            change()
    assert targets == [0, 0, 1, 1]


def test_sequences_survive_pickling():
    assert pickle.loads(pickle.dumps(samples())) == LIST


def test_no_paths_are_an_empty_list():
    assert pack([]) == []
    assert Samples(replace(pack([]), root="/data"), LABELS[:0]) == []


def test_a_file_costs_its_path_and_a_few_bytes():
    names = [f"class_{i % 100:03}/image_{i:08}.jpg" for i in range(10_000)]
    packed = pack(names)
    assert packed == names
    size = len(pickle.dumps((packed, np.zeros(len(names), np.int32))))
    assert size < sum(map(len, names)) + 16 * len(names)
