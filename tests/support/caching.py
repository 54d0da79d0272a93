"""What tests of caches need: sources that count reads over processes, and backends that take notes.

Everything here can be imported in a spawned worker.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kappacore.caching.backends.base import BackendInfo, Buffer, CacheBackend, Scope
from support.warm import WarmProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kappacore.caching.engine.cache import SampleCache

__all__ = [
    "Log",
    "RecordingBackend",
    "load_bytes",
    "namespaces_in",
    "open_cache",
    "open_files",
    "remove_kept",
    "run_script",
    "start_script",
]

_TESTS = Path(__file__).parents[1]


class Log:
    """Numbers that several processes write down, each in one piece.

    Args:
        path: the file.
    """

    _entry = struct.Struct("=q")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def add(self, *numbers: int) -> None:
        """Write numbers down."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(fd, b"".join(map(self._entry.pack, numbers)))
        finally:
            os.close(fd)

    def count(self) -> Counter[int]:
        """Return how often each number was written down."""
        try:
            data = Path(self.path).read_bytes()
        except FileNotFoundError:
            return Counter()
        return Counter(number for (number,) in self._entry.iter_unpack(data))

    def clear(self) -> None:
        """Forget all numbers."""
        Path(self.path).unlink(missing_ok=True)


def load_bytes(
    log: Log | None = None, *, size: int = 100, delay: float = 0.0, seed: int = 0
) -> Callable[[list[int]], list[Any]]:
    """Return a ``load`` for ``SampleCache.fetch`` that notes what it reads.

    Args:
        log: where it notes the indices.
        size: of each sample, in bytes.
        delay: of each sample, in seconds.
        seed: another one gives other samples.
    """

    def load(indices: list[int]) -> list[Any]:
        if log is not None:
            log.add(*indices)
        time.sleep(delay * len(indices))
        return [(bytes([(idx + seed) % 251]) * size, idx) for idx in indices]

    return load


def open_cache(
    backend: str = "shared",
    *,
    length: int = 10,
    fingerprint: str | None = "test",
    namespace: object = None,
    options: dict[str, Any] | None = None,
    load: Callable[[list[int]], Sequence[Any]] | None = None,
    check: bool = True,
    prove: bool = True,
    **settings: Any,
) -> SampleCache:
    """Open a cache as the datasets do at their first read, without any; no torch is imported.

    Without ``prove`` it is left as they do before that.
    """
    from kappacore import plugins
    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.identity.namespace import identify

    identity = identify(
        dataset="Tests",
        item="x",
        form="decoded",
        length=length,
        fingerprint=fingerprint,
        namespace=namespace,
    )
    ref = plugins.as_ref("backend", backend, options or {})
    cache = SampleCache(ref, identity, length, check=check, **settings)
    cache.attach()
    if prove:
        cache.prove(load or load_bytes())
    return cache


class RecordingBackend(CacheBackend):
    """Keeps values in a dict that outlives it and notes every call, in order.

    Register it under a name; ``reset()`` before each use.
    """

    scope: ClassVar[Scope] = "process"
    calls: ClassVar[list[tuple[str, Any]]] = []
    values: ClassVar[dict[int, bytes]] = {}
    #: Keys that somebody else is loading.
    claimed_elsewhere: ClassVar[set[int]] = set()
    #: Largest value that finds room, in bytes.
    room: ClassVar[int] = sys.maxsize
    #: Names of the operations that fail.
    failing: ClassVar[set[str]] = set()

    def __init__(self, namespace: str, length: int) -> None:
        self.length = length
        self._note("open", namespace)

    @classmethod
    def reset(cls) -> type[RecordingBackend]:
        """Forget everything."""
        cls.calls.clear()
        cls.values.clear()
        cls.claimed_elsewhere.clear()
        cls.failing.clear()
        cls.room = sys.maxsize
        return cls

    @classmethod
    def take_calls(cls) -> list[tuple[str, Any]]:
        """Return the calls since the last time."""
        calls = cls.calls.copy()
        cls.calls.clear()
        return calls

    def _note(self, name: str, what: Any = None) -> None:
        self.calls.append((name, what))
        if name in self.failing:
            raise ConnectionError(f"{name} does not work today")

    def get(self, key: int) -> Buffer | None:
        self._note("get", key)
        return self.values.get(key)

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        raise AssertionError("one put_many a batch is expected")

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        self._note("get", list(keys))
        return [self.values.get(key) for key in keys]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        self._note("put", [key for key, _ in items])
        stored = []
        for key, pieces in items:
            value = b"".join(pieces)
            if len(value) <= self.room:
                self.values[key] = value
            stored.append(len(value) <= self.room)
        return stored

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        self._note("claim", list(keys))
        return [key not in self.claimed_elsewhere for key in keys]

    def release_many(self, keys: Sequence[int]) -> None:
        self._note("release", list(keys))

    def clear(self) -> None:
        self._note("clear")
        self.values.clear()

    def close(self) -> None:
        self._note("close")

    def info(self) -> BackendInfo:
        return BackendInfo(
            namespace="",
            entries=len(self.values),
            bytes=sum(map(len, self.values.values())),
            capacity=10**6,
            full=False,
            where="a dict",
        )


def namespaces_in(folder: str | os.PathLike[str]) -> list[str]:
    """List what caches have left in a folder given as ``KAPPACORE_DIR`` or ``path``."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).glob("kappacore-*/*/*"))


def remove_kept(folder: str | os.PathLike[str]) -> list[str]:
    """Remove what caches were asked to keep, and list it."""
    names = namespaces_in(folder)
    for name in names:
        shutil.rmtree(Path(folder, name))
    return names


def open_files() -> int:
    """Count the files that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def start_script(
    folder: Path,
    source: str,
    *args: object,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.PIPE,
    warm: bool = False,
) -> subprocess.Popen[str] | WarmProgram:
    """Start a Python program in a process of its own.

    Args:
        folder: where its file is put.
        source: the program; indented as a whole or not at all.
        *args: its arguments.
        prefix: a command that it is run by.
        env: environment variables beside those there are.
        stderr: a file descriptor for its errors.
        warm: fork it from a process that has torch imported, which takes seconds otherwise.
    """
    number = len(list(folder.glob("script-*.py")))
    path = folder / f"script-{number}.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    if warm:
        return WarmProgram(path, *args, env=env, stderr=stderr)
    python_path = os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [*prefix, sys.executable, "-W", "error::ResourceWarning", str(path), *map(str, args)],
        env={**os.environ, "PYTHONPATH": python_path, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def run_script(
    folder: Path, source: str, *args: object, prefix: Sequence[str] = (), warm: bool = False
) -> str:
    """Run a Python program to its end and return what it printed; it must be silent otherwise."""
    process = start_script(folder, source, *args, prefix=prefix, warm=warm)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    assert err == "", err
    return out
