from __future__ import annotations

import numpy as np
import pytest

from kappacore.datasets import KDDataset, KDSubset, KDWrapper, ModeWrapper, find_item
from kappacore.errors import InvalidItemError, UnknownItemError
from kappacore.wrappers import TransformWrapper
from support.numbers import BatchNumbers, Numbers, Overridden, PlusOne


class Ten(KDDataset):
    def __len__(self):
        return 10


# ---- forms that follow from others


def test_a_batch_is_read_in_one_call_where_the_dataset_defines_getitems():
    dataset = BatchNumbers()
    assert ModeWrapper(dataset, "x").__getitems__([3, 1, 3]) == [30, 10, 30]
    assert dataset.calls == [("getitems", [3, 1, 3])]


def test_a_batch_is_read_one_by_one_where_there_is_no_getitems():
    dataset = Numbers()
    assert ModeWrapper(dataset, "x").__getitems__([3, 1]) == [30, 10]
    assert dataset.calls == [("x", 3), ("x", 1)]


def test_getitems_alone_gives_single_values():
    class OnlyBatch(Ten):
        def getitems_x(self, indices, ctxs=None):
            for idx, ctx in zip(indices, ctxs, strict=True):
                ctx["at"] = idx
            return [idx * 2 for idx in indices]

    assert ModeWrapper(OnlyBatch(), "x ctx.at")[4] == (8, 4)
    assert ModeWrapper(OnlyBatch(), "x ctx.at").__getitems__([1, 2]) == [(2, 1), (4, 2)]


def test_getraw_and_decode_give_values():
    class Stored(Ten):
        def getraw_x(self, idx):
            return b"%d" % idx

        def decode_x(self, raw, ctx=None):
            ctx["bytes"] = raw
            return int(raw)

    mode = ModeWrapper(Stored(), "x ctx.bytes")
    assert mode[3] == (3, b"3")
    assert mode.__getitems__([3, 4]) == [(3, b"3"), (4, b"4")]
    item = find_item(Stored(), "x")
    assert item.has_raw
    assert item.get_raw_batch([1, 2]) == [b"1", b"2"]


def test_getall_alone_gives_single_values_and_is_called_once():
    class Column(Ten):
        calls = 0

        def getall_class(self):
            self.calls += 1
            return np.arange(10) * 2

    dataset = Column()
    mode = ModeWrapper(dataset, "class")
    assert [mode[0], mode[-1]] == [0, 18]
    assert mode.__getitems__([1, 2]) == [2, 4]
    assert dataset.calls == 1


def test_an_array_from_getitems_is_taken_as_a_list_of_values():
    class Vectorised(Ten):
        def getitems_x(self, indices):
            return np.array(indices) * 2

    values = find_item(Vectorised(), "x").get_batch([1, 2])
    assert isinstance(values, list)
    assert values == [2, 4]


def test_static_methods_and_functions_set_on_the_instance_are_forms():
    class Static(Ten):
        @staticmethod
        def getitem_x(idx):
            return idx

    dataset = Static()
    dataset.getitem_y = lambda idx: -idx
    assert ModeWrapper(dataset, "x y")[3] == (3, -3)


def test_forms_that_follow_from_others_are_methods_too():
    dataset = Numbers()
    assert dataset.getitems_x([1, 2]) == [10, 20]
    assert not hasattr(dataset, "getall_x")
    assert not hasattr(dataset, "getraw_x")
    with pytest.raises(
        UnknownItemError, match="Numbers has no getall_x: item 'x' does not have this form"
    ):
        dataset.getall_x()


# ---- the one rule: whoever defines any form of an item hides all forms of it below


def assert_reads_as(dataset, expected):
    """Every way to an item gives the same values."""
    mode = ModeWrapper(dataset, "x")
    everything = list(range(len(dataset)))
    item = find_item(dataset, "x")
    assert list(mode) == expected
    assert mode.__getitems__(everything) == expected
    assert item.get_batch(everything) == expected
    assert [item.get(idx) for idx in everything] == expected
    column = item.get_all()
    assert column is None or list(column) == expected


def test_a_wrapper_that_redefines_getitem_hides_the_getitems_below():
    inner = BatchNumbers(4)
    assert_reads_as(PlusOne(inner), [1, 11, 21, 31])
    assert all(call[0] == "getitem" for call in inner.calls)


def test_a_wrapper_that_redefines_getitem_hides_the_getall_below():
    wrapper = PlusOne(BatchNumbers(4))
    assert find_item(wrapper, "x").get_all() is None
    assert not hasattr(wrapper, "getall_x")


def test_a_wrapper_that_redefines_getitem_hides_the_raw_form_below():
    wrapper = PlusOne(BatchNumbers(4))
    assert not find_item(wrapper, "x").has_raw
    assert not hasattr(wrapper, "getraw_x")
    assert not hasattr(wrapper, "decode_x")


def test_a_wrapper_that_redefines_getitem_offers_its_own_values_as_a_batch():
    assert PlusOne(BatchNumbers(4)).getitems_x([0, 1]) == [1, 11]


def test_a_wrapper_that_redefines_getitem_loses_the_fingerprint():
    inner = BatchNumbers(4)
    wrapper = PlusOne(inner)
    assert inner.fingerprint("x") == "numbers-4-x-False"
    assert wrapper.fingerprint("x") is None
    assert find_item(wrapper, "x").fingerprint() is None
    assert wrapper.fingerprint("y") == "numbers-4-y-False"


def test_a_subclass_that_overrides_getitem_is_not_read_through_its_parents_forms():
    dataset = Overridden(4)
    assert_reads_as(dataset, [0, -1, -2, -3])
    assert_reads_as(KDSubset(dataset, [2, 1]), [-2, -1])
    assert dataset.calls == []


def test_a_subclass_that_overrides_getitem_has_no_raw_form():
    assert find_item(BatchNumbers(), "x").has_raw
    assert not find_item(Overridden(), "x").has_raw


def test_a_subclass_that_overrides_getitem_has_no_fingerprint_for_that_item():
    item = find_item(Overridden(4), "x")
    assert item.fingerprint() is None
    assert item.fingerprint(raw=True) is None
    assert find_item(KDSubset(Overridden(4), [0]), "x").fingerprint() is None
    assert find_item(Overridden(4), "y").fingerprint() == "numbers-4-y-False"


def test_a_subclass_may_declare_the_fingerprint_of_what_it_overrides():
    class Declared(Overridden):
        def getitem_x(self, idx):
            return -2 * idx

        def fingerprint(self, item, raw=False):
            return "negated" if item == "x" else super().fingerprint(item, raw)

    assert find_item(Declared(), "x").fingerprint() == "negated"
    assert find_item(Declared(), "y").fingerprint() == "numbers-10-y-False"


def test_a_fingerprint_that_passes_the_question_on_is_unknown():
    class Asks(Numbers):
        def fingerprint(self, item, raw=False):
            return super().fingerprint(item, raw)

    assert find_item(Asks(), "x").fingerprint() is None


def test_a_mixin_in_front_hides_the_forms_of_the_class_behind_it():
    class Negated:
        def getitem_x(self, idx):
            return -idx

    class Mixed(Negated, BatchNumbers):
        pass

    assert_reads_as(Mixed(3), [0, -1, -2])
    assert find_item(Mixed(3), "x").fingerprint() is None


def test_a_method_set_on_the_instance_hides_those_of_its_class():
    dataset = BatchNumbers(3)
    dataset.getitem_x = lambda idx: idx + 100
    assert_reads_as(dataset, [100, 101, 102])
    assert find_item(dataset, "x").fingerprint() is None


def test_one_form_may_call_the_same_classs_other_forms_of_a_parent():
    class Doubled(BatchNumbers):
        def getitem_x(self, idx):
            return 2 * self.decode_x(self.getraw_x(idx))

    assert_reads_as(Doubled(3), [0, 20, 40])


def test_a_form_set_to_none_takes_the_item_away():
    class Without(BatchNumbers):
        getitem_x = None

    with pytest.raises(UnknownItemError, match="Without has no item 'x'; its items are: y"):
        ModeWrapper(Without(), "x")


# ---- bad input


def test_decode_without_getraw_says_how_to_keep_the_parents():
    class Gray(BatchNumbers):
        def decode_x(self, raw):
            return 0

    with pytest.raises(
        InvalidItemError,
        match=r"Gray defines decode_x but no getraw_x.*`getraw_x = BatchNumbers.getraw_x` keeps",
    ):
        ModeWrapper(Gray(), "x")

    Gray.getraw_x = BatchNumbers.getraw_x
    assert_reads_as(Gray(3), [0, 0, 0])


def test_getraw_without_decode_says_what_to_define():
    class Half(KDWrapper):
        def getraw_x(self, idx):
            return b""

    with pytest.raises(
        InvalidItemError, match=r"Half defines getraw_x but no decode_x.*\(or getitem_x\) in Half"
    ):
        ModeWrapper(Half(BatchNumbers()), "x")


def test_helpers_that_look_like_half_an_item_are_not_listed():
    class Helpful(Numbers):
        def decode_image(self, data):
            return data

    with pytest.raises(UnknownItemError, match=r"its items are: x, y\."):
        ModeWrapper(Helpful(), "z")


def test_a_form_that_is_no_method_is_refused():
    class Column(Ten):
        getall_class = (1, 2, 3)

    with pytest.raises(
        InvalidItemError, match=r"Column.getall_class must be a method, but it is a tuple"
    ):
        ModeWrapper(Column(), "class")


@pytest.mark.parametrize("values", [[1], [1, 2, 3], ()])
def test_getitems_with_a_wrong_number_of_values_is_refused(values):
    class Wrong(Ten):
        def getitems_x(self, indices):
            return values

    with pytest.raises(
        InvalidItemError, match=rf"Wrong.getitems_x returned {len(values)} values for 2 indices"
    ):
        ModeWrapper(Wrong(), "x").__getitems__([0, 1])


def test_getitems_that_returns_no_sequence_is_refused():
    class Wrong(Ten):
        def getitems_x(self, indices):
            return None

    with pytest.raises(InvalidItemError, match="returned a NoneType for 2 indices"):
        ModeWrapper(Wrong(), "x").__getitems__([0, 1])


def test_getall_of_a_wrong_length_is_refused():
    class Wrong(Ten):
        def getall_x(self):
            return [1, 2]

    with pytest.raises(
        InvalidItemError, match=r"Wrong.getall_x returned 2 values, but the dataset has 10 samples"
    ):
        find_item(Wrong(), "x").get_all()


def test_getall_that_returns_a_generator_is_refused():
    class Wrong(Ten):
        def getall_x(self):
            return (idx for idx in range(10))

    with pytest.raises(InvalidItemError, match=r"Wrong.getall_x returned a generator"):
        find_item(Wrong(), "x").get_all()


def test_an_item_without_a_raw_form_says_so():
    item = find_item(TransformWrapper(Numbers(), str), "x")
    assert not item.has_raw
    for use in (lambda: item.get_raw_batch([0]), lambda: item.decode(b"0")):
        with pytest.raises(UnknownItemError, match=r"Item has no raw form .* get_batch\(\)"):
            use()
