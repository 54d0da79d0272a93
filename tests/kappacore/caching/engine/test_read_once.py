"""Two ranks with two workers each, three epochs: every sample is read from its source once."""

from __future__ import annotations

import json

import pytest

from kappacore import CachedDataset
from support.cache_sources import Samples
from support.caching import namespaces_in, start_script

pytest.importorskip("kappa_shared")

LENGTH = 200
RANK = """
    import json, sys
    from torch.utils.data import DataLoader
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    if __name__ == "__main__":
        log, length, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
        source = Samples(log, length, delay=0.002)
        with CachedDataset(source, options, namespace="train", check=False) as cached:
            loader = DataLoader(
                cached, batch_size=16, num_workers=2, collate_fn=list,
                multiprocessing_context="fork",
            )
            print("ready", flush=True)
            sys.stdin.readline()
            expected = [source.sample(idx) for idx in range(length)]
            for _ in range(3):
                assert [sample for batch in loader for sample in batch] == expected
            stats = cached.stats()
            print(json.dumps([stats.backend_errors, stats.corrupt, stats.refused]), flush=True)
            sys.stdin.readline()
    """


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["shared", "lmdb"])
def test_ranks_and_workers_that_read_the_same_at_the_same_time_read_it_once(
    backend, tmp_path, cache_folder
):
    options = {"use": backend, "max_bytes": "4MiB"}
    if backend == "lmdb":
        pytest.importorskip("kappa_lmdb.backend")
        options["path"] = str(tmp_path / "lmdb")
    log = tmp_path / "reads"
    ranks = [
        start_script(
            tmp_path,
            RANK,
            log,
            LENGTH,
            json.dumps(options),
            warm=True,
            env={
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
            },
        )
        for rank in range(2)
    ]
    for rank in ranks:
        assert rank.stdout.readline() == "ready\n", rank.stderr.read()
    for rank in ranks:  # at the same time
        rank.stdin.write("go\n")
        rank.stdin.flush()
    for rank in ranks:
        line = rank.stdout.readline()
        assert line, rank.stderr.read()
        assert json.loads(line) == [0, 0, 0]
    source = Samples(log, LENGTH)
    with CachedDataset(source, options, namespace="train", check=False) as cached:
        stats = cached.stats()
    for rank in ranks:
        _, err = rank.communicate("end\n", timeout=250)
        assert (rank.returncode, err) == (0, "")
    assert source.log.count() == dict.fromkeys(range(LENGTH), 1)
    assert (stats.source_reads, stats.misses, stats.stores) == (LENGTH, LENGTH, LENGTH)
    assert stats.hits + stats.waits == (2 * 3 - 1) * LENGTH
    assert stats.waits > 0
    assert namespaces_in(cache_folder) == []
