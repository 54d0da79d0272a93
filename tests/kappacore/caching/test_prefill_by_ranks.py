"""Filling a cache by several ranks: whose part of the samples is whose."""

from __future__ import annotations

import pytest

from kappacore import CachedDataset
from kappacore.caching.prefill import shard_of
from kappacore.errors import InvalidOptionError
from support.cache_sources import SMALL, Samples
from support.caching import Log, start_script


@pytest.mark.parametrize(
    ("scope", "environment", "expected"),
    [
        ("machine", {}, (0, 1)),
        ("machine", {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, (1, 4)),
        ("machine", {"RANK": "5", "WORLD_SIZE": "8"}, (0, 1)),
        (
            "machine",
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            (1, 4),
        ),
        (
            "network",
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            (5, 8),
        ),
        ("machine", {"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4"}, (2, 4)),
        (
            "machine",
            {"SLURM_LOCALID": "2", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"},
            (2, 3),
        ),
        ("network", {"SLURM_PROCID": "6", "SLURM_STEP_NUM_TASKS": "8"}, (6, 8)),
        # A batch script is one process, whatever the job has asked for.
        ("network", {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),
        (
            "network",
            {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
            (1, 2),
        ),
        ("machine", {"LOCAL_RANK": "1"}, (0, 1)),
        ("machine", {"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "many"}, (0, 1)),
        ("machine", {"LOCAL_RANK": "4", "LOCAL_WORLD_SIZE": "4"}, (0, 1)),
        ("process", {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, (0, 1)),
    ],
)
def test_the_ranks_that_share_a_cache_share_its_filling(monkeypatch, scope, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shard_of(scope) == expected
    assert shard_of(scope, None) == (0, 1)
    assert shard_of(scope, (2, 3)) == (2, 3)


@pytest.mark.parametrize("shard", ["all", 3, (3, 3), (-1, 2), (0, 0), (0,), (0.0, 2), ("0", "2")])
def test_what_is_no_part_is_refused(log, shard):
    expected = r"is not a part of the samples. Use 'auto' .*, None .*, or \(number, parts\) such as"
    with (
        CachedDataset(Samples(log), "shared", **SMALL) as cached,
        pytest.raises(InvalidOptionError, match=expected),
    ):
        cached.prefill(shard=shard)


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_the_parts_make_up_the_whole(log, parts):
    with CachedDataset(Samples(log, 100), "shared", **SMALL) as cached:
        loaded = [cached.prefill(shard=(number, parts)) for number in range(parts)]
        assert sum(loaded) == 100
        assert max(loaded) - min(loaded) <= 1
        assert cached.dataset.log.count() == dict.fromkeys(range(100), 1)


RANK = """
    import sys
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    with CachedDataset(
        Samples(sys.argv[1], 100, delay=0.001), "shared", max_bytes="1MiB", namespace="n",
        check=False,
    ) as cached:
        print(cached.prefill())
    """


def test_two_ranks_fill_a_half_each(tmp_path, log):
    with CachedDataset(Samples(log, 100), "shared", namespace="n", **SMALL) as cached:
        logs = [Log(tmp_path / f"rank-{rank}") for rank in range(2)]
        ranks = [
            start_script(
                tmp_path,
                RANK,
                logs[rank].path,
                warm=True,
                env={"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"},
            )
            for rank in range(2)
        ]
        for rank in ranks:
            out, err = rank.communicate(timeout=250)
            assert (rank.returncode, out, err) == (0, "50\n", "")
        assert logs[0].count() == dict.fromkeys(range(50), 1)
        assert logs[1].count() == dict.fromkeys(range(50, 100), 1)
        assert cached.prefill() == 0
