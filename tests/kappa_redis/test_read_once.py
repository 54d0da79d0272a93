"""Processes that share only the server read each sample once."""

from __future__ import annotations

import subprocess
from functools import cache

import pytest

from support.caching import Log, start_script

LENGTH = 200

READER = """
import sys, time
from support.cache_sources import Samples
import kappacore

url, log, order, length = sys.argv[1:]
samples = Samples(log, int(length), delay=0.002)
with kappacore.CachedDataset(samples, "redis", url=url, namespace="once", check=False) as ds:
    batches = [list(range(start, start + 8)) for start in range(0, len(samples), 8)]
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in batches if order == "up" else reversed(batches):
        assert ds.__getitems__(batch) == [samples.sample(idx) for idx in batch]
        while samples.log.count().total() < 16:  # until the other one has begun, at the other end
            time.sleep(0.01)
    print(ds.stats().source_reads)
"""


@cache
def network_of_its_own():
    """A command that runs a program in a network of its own, where that is allowed."""
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        command = ["unshare", *options]
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


@pytest.mark.slow
def test_interpreters_in_networks_of_their_own_read_each_sample_once(node, tmp_path):
    log = Log(tmp_path / "log")
    readers = [
        start_script(
            tmp_path,
            READER,
            node.socket_url,
            log.path,
            order,
            LENGTH,
            prefix=network_of_its_own(),
            env={"KAPPACORE_DIR": str(folder)},  # as on another machine
        )
        for order, folder in (("up", _made(tmp_path / "a")), ("down", _made(tmp_path / "b")))
    ]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    log.clear()
    for reader in readers:
        reader.stdin.write("go\n")
        reader.stdin.flush()
    counted = []
    for reader in readers:
        out, err = reader.communicate(timeout=250)
        assert reader.returncode == 0, err
        counted.append(int(out))
    assert log.count() == dict.fromkeys(range(LENGTH), 1)
    assert sum(counted) == LENGTH
    assert min(counted) > 0  # both had their part in it


def _made(folder):
    folder.mkdir()
    return folder
