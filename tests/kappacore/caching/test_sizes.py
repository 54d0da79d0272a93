from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.errors import InvalidOptionError
from kappacore.sizes import (
    available_memory,
    disk_space,
    format_size,
    is_in_memory,
    parse_duration,
    parse_size,
)


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


def test_space_is_what_the_file_system_says(tmp_path):
    total, free = disk_space(tmp_path)
    assert 0 < free < total


def test_a_file_system_without_a_limit_has_room():
    assert disk_space(Path("/proc")) == (0, sys.maxsize)


def test_file_systems_in_memory_are_told_from_disks():
    assert is_in_memory(Path("/dev/shm"))
    assert not is_in_memory(Path("/proc"))


def test_available_memory_is_no_more_than_the_machine_has():
    total = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert total is not None
    assert 0 <= available_memory() <= int(total[1]) * 1024


def make_group(root, version, path, *, limit, usage, idle):
    """Lay out one control group as the kernel shows it."""
    base, top, used, stat = {
        2: ("", "memory.max", "memory.current", "inactive_file"),
        1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    folder = root / base / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / top).write_text(f"{limit}\n")
    (folder / used).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{stat} {idle}\nactive_file 7\n")


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Pretend that the control groups of this process are those under the returned folder."""
    from kappacore import sizes

    def fake(path):
        path = str(path)
        if path == "/proc/meminfo":
            return "MemTotal: 99 kB\nMemAvailable:    8000 kB\n"
        if path == "/proc/self/cgroup":
            return (tmp_path / "self").read_text()
        real = path.replace("/sys/fs/cgroup", str(tmp_path))
        return Path(real).read_text() if Path(real).is_file() else None

    monkeypatch.setattr(sizes, "_read", fake)
    return tmp_path


@pytest.mark.parametrize(("version", "line"), [(2, "0::/a/b"), (1, "4:cpu,memory:/a/b")])
def test_a_container_may_take_what_its_group_and_those_above_leave(cgroups, version, line):
    (cgroups / "self").write_text(line + "\n")
    make_group(cgroups, version, "a/b", limit="max", usage=10, idle=0)
    assert available_memory() == 8000 * 1024
    make_group(cgroups, version, "a", limit=5000, usage=4000, idle=0)
    assert available_memory() == 1000
    make_group(cgroups, version, "a/b", limit=3000, usage=2900, idle=0)
    assert available_memory() == 100
    make_group(cgroups, version, "a/b", limit=3000, usage=3100, idle=0)
    assert available_memory() == 0


@pytest.mark.parametrize(("version", "line"), [(2, "0::/a"), (1, "4:memory:/a")])
def test_files_that_were_merely_read_do_not_use_a_container_up(cgroups, version, line):
    (cgroups / "self").write_text(line + "\n")
    make_group(cgroups, version, "a", limit=5000, usage=4900, idle=4000)
    assert available_memory() == 4100
