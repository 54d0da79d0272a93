"""The template for backends of one's own: installed by its entry point, and in the suite."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import kappacore
from kappacore import plugins
from support.caching import remove_kept

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kappa_lmdb"
SAMPLES = [bytes([idx]) * 1000 for idx in range(20)]


def load_suite():
    """The example's own tests, as its author runs them."""
    path = EXAMPLE / "tests" / "test_kappa_lmdb.py"
    spec = importlib.util.spec_from_file_location("kappa_lmdb_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TestLMDB


TestLMDB = load_suite()


def open_cache(folder, **options):
    options = {"namespace": "test", "max_bytes": "64MiB", "strict": True, **options}
    return kappacore.CachedDataset(SAMPLES, "lmdb", path=folder, **options)


def test_it_is_a_distribution_of_its_own_that_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.distribution("kappa-lmdb").entry_points
    assert (entry.group, entry.value) == ("kappacore", "kappa_lmdb._plugin")
    info = plugins.find("backend", "lmdb")
    assert (info.distribution, info.target) == ("kappa-lmdb", "kappa_lmdb.backend:LMDBBackend")


def test_it_is_short_enough_to_be_read_at_once():
    lines = [
        line
        for path in (EXAMPLE / "kappa_lmdb").glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    assert len(lines) < 80


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "kappa_lmdb/_plugin.py", "kappa_lmdb/backend.py"]
)
def test_the_page_for_authors_shows_it_as_it_is(name):
    page = (ROOT / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")
    assert f"\n{(EXAMPLE / name).read_text(encoding='utf-8')}```\n" in page


def test_samples_are_read_once_and_go_with_their_last_user(tmp_path):
    for _ in range(2):
        with open_cache(tmp_path) as dataset:
            assert list(dataset) == list(dataset) == SAMPLES
            assert dataset.stats().source_reads == len(SAMPLES)


@pytest.mark.slow
def test_samples_stay_for_the_next_run_where_asked(tmp_path, cache_folder):
    with open_cache(tmp_path, keep=True) as dataset:
        assert list(dataset) == SAMPLES
    script = tmp_path / "next_run.py"
    script.write_text(
        f"""
import kappacore

samples = [bytes([idx]) * 1000 for idx in range(20)]
options = dict(namespace="test", max_bytes="64MiB", strict=True, keep=True, check=False)
with kappacore.CachedDataset(samples, "lmdb", path={str(tmp_path)!r}, **options) as dataset:
    assert list(dataset) == samples
    print(dataset.stats().source_reads)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert len(remove_kept(cache_folder)) == 1  # the note of how long


def test_caches_of_one_process_share_the_file(tmp_path):
    with open_cache(tmp_path, namespace="one") as one, open_cache(tmp_path, namespace="two") as two:
        assert list(one) == list(two) == SAMPLES
        one.clear()
        assert list(two) == SAMPLES
        assert two.stats().source_reads == len(SAMPLES)
    assert {path.name for path in tmp_path.iterdir()} == {"data.mdb", "lock.mdb"}


def test_room_that_was_cleared_is_used_again(tmp_path):
    for _ in range(10):
        with open_cache(tmp_path, max_bytes=2**20, namespace=kappacore.PRIVATE) as dataset:
            for _ in range(2):
                assert list(dataset) == SAMPLES
            assert dataset.stats().refused == 0
    assert (tmp_path / "data.mdb").stat().st_size < 2**19


def test_threads_may_share_a_dataset(tmp_path):
    with open_cache(tmp_path) as dataset:
        found = []
        threads = [threading.Thread(target=lambda: found.append(list(dataset))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [SAMPLES] * 4


@pytest.mark.filterwarnings("ignore:The cache 'lmdb' is full:kappacore.errors.CacheWarning")
def test_a_full_file_costs_time_and_not_the_run(tmp_path):
    samples = [bytes([idx]) * 2**16 for idx in range(40)]
    options = {"path": tmp_path, "max_bytes": "1MiB", "strict": True}
    with kappacore.CachedDataset(samples, "lmdb", namespace="test", **options) as dataset:
        assert list(dataset) == list(dataset) == samples
        stats = dataset.stats()
    assert 0 < stats.stores < len(samples)
    assert stats.source_reads == 2 * len(samples) - stats.stores
