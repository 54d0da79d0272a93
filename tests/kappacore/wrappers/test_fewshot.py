from __future__ import annotations

import pytest

from kappacore.errors import InvalidOptionError
from kappacore.wrappers import FewshotWrapper
from support.labelled import Labelled, labels, samples

LABELS = [idx * idx % 4 + idx % 3 for idx in range(40)]
PINNED = [2, 11, 24, 27]


def test_every_class_that_occurs_has_as_many_samples_in_the_datasets_order():
    wrapper = FewshotWrapper(Labelled(LABELS, "abcd"), num_shots=3, seed=1)
    assert {label: labels(wrapper).count(label) for label in set(LABELS)} == dict.fromkeys(
        set(LABELS), 3
    )
    assert samples(wrapper) == sorted(samples(wrapper))


def test_the_draw_for_a_seed_is_pinned():
    assert samples(FewshotWrapper(Labelled(LABELS), 1, seed=0)) == PINNED
    assert samples(FewshotWrapper(Labelled(LABELS), 1)) == PINNED
    assert samples(FewshotWrapper(Labelled(LABELS), 1, seed=1)) != PINNED


def test_fewer_shots_are_a_part_of_more():
    one, three = (set(samples(FewshotWrapper(Labelled(LABELS), n, seed=2))) for n in (1, 3))
    assert one < three


def test_all_samples_may_be_asked_for():
    assert samples(FewshotWrapper(Labelled([1, 0, 1, 0]), 2)) == [0, 1, 2, 3]
    assert len(FewshotWrapper(Labelled([]), 5)) == 0


def test_more_shots_than_a_class_has_are_refused():
    with pytest.raises(InvalidOptionError, match=r"^num_shots=2 is more than class 7 has: 1"):
        FewshotWrapper(Labelled([0, 0, 7]), 2)


@pytest.mark.parametrize("num_shots", [0, -1, 1.5, True])
def test_what_is_no_number_of_shots_is_refused(num_shots):
    with pytest.raises(InvalidOptionError, match=r"^num_shots=.*: expected an integer of at"):
        FewshotWrapper(Labelled(LABELS), num_shots)
