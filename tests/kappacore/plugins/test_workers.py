"""Plugins defined in a user's script, used in real DataLoader workers."""

from __future__ import annotations

import json
import textwrap

import pytest

from support.fake_plugins import run_python
from support.warm import run_warm

START_METHODS = ("fork", "spawn", "forkserver")

SCRIPT = """
import json
import sys

from torch.utils.data import DataLoader, Dataset

import kappacore


class Numbers(Dataset):
    def __init__(self, ref):
        self.ref = ref

    def __len__(self):
        return 2

    def __getitem__(self, idx):
        return self.ref.open("namespace", 2).double(idx)

{definition}

def outcome(ref, method):
    loader = DataLoader(
        Numbers(ref), num_workers=1, collate_fn=list, multiprocessing_context=method
    )
    try:
        return [value for batch in loader for value in batch]
    except kappacore.errors.BrokenPluginError as error:
        return str(error)


if __name__ == "__main__":
{registration}
    chosen = kappacore.backend("mine", offset=100)
    print(json.dumps({{method: outcome(chosen, method) for method in sys.argv[1:]}}))
"""

BACKEND = """
class Mine:
    scope = "process"

    def __init__(self, namespace, length, offset):
        self.offset = offset

    def double(self, idx):
        return self.offset + 2 * idx
"""
DECORATED = f'\n@kappacore.register_cache_backend("mine"){BACKEND}'
RIGHT = [100, 102]


def script(definition="", registration="pass"):
    return SCRIPT.format(
        definition=definition, registration=textwrap.indent(registration.strip("\n"), "    ")
    )


def outcomes(completed):
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def run_script(tmp_path, text, *methods):
    path = tmp_path / "train.py"
    path.write_text(text)
    return outcomes(run_warm(path, *methods))


CACHE = """
import os
import sys
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

import kappacore


class Squares(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, idx):
        return idx * idx


@kappacore.register_cache_backend("mine")
class Mine(kappacore.CacheBackend):
    scope = "process"

    def __init__(self, namespace, length, *, log):
        super().__init__(namespace, length)
        self.stored, self.log = {}, Path(log)

    def get(self, key):
        return self.stored.get(key)

    def put(self, key, value):
        self.stored[key] = b"".join(value)
        with self.log.open("a") as file:
            print(os.getpid(), key, file=file)
        return True


if __name__ == "__main__":
    method, log = sys.argv[1:]
    cached = kappacore.CachedDataset(Squares(), "mine", log=log)
    loader = DataLoader(
        cached,
        num_workers=1,
        batch_size=2,
        collate_fn=list,
        persistent_workers=True,
        multiprocessing_context=method,
    )
    for _ in range(2):
        print([value for batch in loader for value in batch])
    print(os.getpid())
"""


@pytest.mark.parametrize("method", START_METHODS)
def test_a_backend_defined_in_the_script_caches_in_workers(tmp_path, method):
    script = tmp_path / "train.py"
    script.write_text(CACHE)
    log = tmp_path / "log"
    done = run_warm(script, method, log)
    assert done.returncode == 0, done.stderr
    *epochs, main_process = done.stdout.splitlines()
    assert epochs == ["[0, 1, 4, 9]"] * 2
    stored = [line.split() for line in log.read_text().splitlines()]
    in_workers = [key for process, key in stored if process != main_process]
    assert len(set(in_workers)) == len(in_workers) >= 4  # every sample, once in two epochs


def test_a_lambda_works_forked_and_is_refused_elsewhere(tmp_path):
    registration = (
        'kappacore.register_cache_backend("mine", lambda *args, **options: Mine(*args, **options), '
        'scope="process")'
    )
    result = run_script(tmp_path, script(BACKEND, registration), *START_METHODS)
    assert result["fork"] == RIGHT
    for method in ("spawn", "forkserver"):
        assert result[method].startswith(
            "cache backend 'mine' cannot be sent to another process: it is a lambda"
        )
        assert "Define it at the top level of a module" in result[method]


def test_a_local_class_works_forked_and_is_refused_elsewhere(tmp_path):
    definition = "\ndef define():\n" + textwrap.indent(DECORATED, "    ")
    result = run_script(tmp_path, script(definition, "define()"), *START_METHODS)
    assert result["fork"] == RIGHT
    for method in ("spawn", "forkserver"):
        assert "define.<locals>.Mine is defined inside a function" in result[method]
        assert "Define it at the top level of a module" in result[method]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_class_under_the_main_guard_is_refused_by_the_worker(tmp_path, method):
    result = run_script(tmp_path, script("", DECORATED), method)
    assert "Caught BrokenPluginError in DataLoader worker process 0" in result[method]
    assert "train.py) defines no Mine" in result[method]
    assert 'under `if __name__ == "__main__":` exists only in the process' in result[method]
    assert "move it above that line, or into a module" in result[method]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_a_class_of_a_notebook_works_forked_and_is_refused_elsewhere(how):
    text = script(DECORATED)
    if how == "-c":
        result = outcomes(run_python("-c", text, "fork", "spawn"))
    else:
        result = outcomes(run_python("-", "fork", "spawn", stdin=text))
    assert result["fork"] == RIGHT
    assert "Mine is defined in an interactive session or a notebook" in result["spawn"]
    assert "Define it at the top level of a module" in result["spawn"]


# The rest is about how the script is found, and needs no DataLoader.

SPAWN = """
import multiprocessing
import sys

import kappacore


@kappacore.register_cache_backend("mine")
class Mine:
    scope = "process"


def use(ref):
    looked = [name for name in ("importlib_metadata", "pluggy") if name in sys.modules]
    return ref.load().__name__, looked


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(use, [kappacore.backend("mine")]))
"""


@pytest.mark.slow
def test_a_worker_that_runs_the_script_again_does_not_look_for_plugins(tmp_path):
    (tmp_path / "train.py").write_text(SPAWN)
    done = run_python(str(tmp_path / "train.py"))
    assert done.stdout == "('Mine', [])\n", done.stderr


@pytest.mark.slow
def test_a_script_run_as_a_module_works_in_workers(tmp_path):
    (tmp_path / "train.py").write_text(SPAWN)
    done = run_python("-m", "train", path=(tmp_path,))
    assert done.stdout == "('Mine', [])\n", done.stderr


def test_the_main_of_a_package_is_refused_since_workers_do_not_run_it(tmp_path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__main__.py").write_text(
        "import pickle, kappacore\n"
        "class Mine:\n"
        "    scope = 'process'\n"
        "kappacore.register_cache_backend('mine', Mine)\n"
        "pickle.dumps(kappacore.backend('mine'))\n"
    )
    done = run_python("-m", "trainer", path=(tmp_path,))
    assert "Mine is defined in the __main__.py of a package" in done.stderr
