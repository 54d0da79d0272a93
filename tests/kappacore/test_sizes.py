from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.errors import InvalidOptionError
from kappacore.sizes import format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (12345, 12345),
        ("12345", 12345),
        ("100B", 100),
        ("100 b", 100),
        ("64GiB", 64 * 2**30),
        ("64 GiB", 64 * 2**30),
        (" 64gib ", 64 * 2**30),
        ("64Gi", 64 * 2**30),
        ("500MB", 500 * 10**6),
        ("500M", 500 * 10**6),
        ("1.5k", 1500),
        ("1.5KiB", 1536),
        ("2TiB", 2 * 2**40),
        (0.25, 250),
        (1.0, 1000),
    ],
)
def test_sizes_are_read_as_people_write_them(value, expected):
    assert parse_size(value, 1000) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 0.0, -0.5, 1.5, math.nan, math.inf, True, False, None, [], b"1"),
        *("", "GiB", "-1GiB", "1e9", "0", "0.1", "1 GiB extra", "1,5GiB", "1 XB", "lots", "1\n2"),
    ],
)
def test_what_is_no_size_is_refused_with_what_was_given(value):
    expected = rf"max_bytes={re.escape(repr(value))} is not a size. Give bytes as .*'64GiB'"
    with pytest.raises(InvalidOptionError, match=expected):
        parse_size(value, 1000)


def test_the_error_names_the_option():
    with pytest.raises(InvalidOptionError, match=r"^budget='x' is not a size"):
        parse_size("x", 1000, "budget")


def test_a_fraction_of_nothing_free_is_no_mistake_of_the_user():
    assert parse_size(0.8, 0) == 1


@given(st.integers(1, 2**60))
def test_a_number_of_bytes_is_itself_as_integer_and_as_text(size):
    assert parse_size(size, 1) == size
    assert parse_size(str(size), 1) == size
    assert parse_size(f"{size}B", 1) == size


@given(st.integers(1, 2**50))
def test_what_is_printed_for_people_is_read_back_to_within_rounding(size):
    printed = format_size(size)
    assert parse_size(printed, 1) == pytest.approx(size, rel=0.06)
    assert parse_size(printed.replace(" ", ""), 1) == parse_size(printed, 1)


@given(
    st.integers(1, 10**6),
    st.sampled_from(["k", "M", "G", "T", "Ki", "mi", "GI", "Ti"]),
    st.sampled_from(["", " "]),
    st.sampled_from(["", "b", "B"]),
)
def test_every_unit_can_be_spelled_in_any_case_with_or_without_blank_and_b(
    number, unit, blank, suffix
):
    base = 1024 if unit.lower().endswith("i") else 1000
    power = "kmgt".index(unit[0].lower()) + 1
    assert parse_size(f"{number}{blank}{unit}{suffix}", 1) == number * base**power


anything = (
    st.text("0123456789.kMgTiBsmhd -e", max_size=9)
    | st.integers()
    | st.floats()
    | st.none()
    | st.booleans()
)


@given(anything)
def test_any_value_gives_a_positive_size_or_the_error(value):
    try:
        size = parse_size(value, 10**9)
    except InvalidOptionError:
        return
    assert size > 0


@pytest.mark.parametrize("digits", [400, 4000])
def test_a_number_of_many_digits_is_a_size_nobody_has_but_no_crash(digits):
    assert parse_size("9" * digits + "k", 1) > 10**digits


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, math.inf),
        (False, 0),
        (0, 0),
        (90, 90),
        (1.5, 1.5),
        (math.inf, math.inf),
        ("90s", 90),
        ("30m", 1800),
        ("12h", 43200),
        ("7d", 7 * 86400),
        (" 0.5 D ", 43200),
    ],
)
def test_durations_are_read_as_people_write_them(value, expected):
    assert parse_duration(value) == expected


@pytest.mark.parametrize(
    "value", [-1, math.nan, "", "7", "7 days", "-1d", "d", None, [], "forever"]
)
def test_what_is_no_duration_is_refused_with_what_was_given(value):
    expected = rf"^keep={re.escape(repr(value))} is not a duration. Give True, False, .*'7d'"
    with pytest.raises(InvalidOptionError, match=expected):
        parse_duration(value)


@given(anything)
def test_any_value_gives_a_duration_or_the_error(value):
    try:
        duration = parse_duration(value)
    except InvalidOptionError:
        return
    assert duration >= 0
