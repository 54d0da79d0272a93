from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kappacore.machine.space import available_memory, disk_space, is_in_memory


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
    from kappacore.machine import space

    def fake(path):
        path = str(path)
        if path == "/proc/meminfo":
            return "MemTotal: 99 kB\nMemAvailable:    8000 kB\n"
        if path == "/proc/self/cgroup":
            return (tmp_path / "self").read_text()
        real = path.replace("/sys/fs/cgroup", str(tmp_path))
        return Path(real).read_text() if Path(real).is_file() else None

    monkeypatch.setattr(space, "_read", fake)
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
