"""One test's use of the backend under test: the instances it opens and the processes it starts."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import traceback
import uuid
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from kappacore.caching.backends.base import CacheBackend, backend_class, takes_keep
from kappacore.errors import BrokenPluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from kappacore.caching.datasets import CachedDataset
    from kappacore.plugins import PluginRef

Test = TypeVar("Test", bound="Callable[..., object]")

LENGTH = 32  # keys of a namespace
#: What :attr:`CacheBackendSuite.limit_option` is unless an author says otherwise.
DEFAULT_LIMIT_OPTION = "max_bytes"


def slow(test: Test) -> Test:
    """Mark a test that takes seconds: ``pytest -k "not slow"`` leaves it out.

    An attribute, because a mark would have to be registered by everyone who runs the suite.
    """
    test.__dict__["slow"] = True
    return test


class Case:
    """Opens backends and forks processes, and removes all of them after the test.

    Args:
        ref: The backend under test and its options.
        limit_option: Name of the option that limits its size; None if it has none.
        timeout: Seconds after which a child counts as hung.
    """

    def __init__(self, ref: PluginRef, limit_option: str | None, timeout: float) -> None:
        self.ref = ref
        self.cls = backend_class(ref)
        self.limit_option = limit_option
        self.timeout = timeout
        #: The default namespace.
        self.namespace = self.new_namespace()
        self._opened: list[CacheBackend] = []
        self._lengths: dict[str, int] = {}  # of the namespaces that were opened
        self._datasets: list[CachedDataset] = []
        self._children: list[Child] = []

    # ---- what the backend is

    @property
    def shares(self) -> bool:
        """Whether other processes see its entries, by its scope."""
        return self.cls.scope != "process"

    @property
    def keeps(self) -> bool:
        """Whether the backend manages the lifetime of its entries itself."""
        return takes_keep(self.cls)

    def defines(self, name: str) -> bool:
        """Return whether the backend overrides an optional method."""
        return getattr(self.cls, name) is not getattr(CacheBackend, name)

    def skip_unless_shared(self) -> None:
        """Skip the test if other processes need not see the entries."""
        if not self.shares:
            pytest.skip(f"{self.ref}: its scope 'process' promises nothing to other processes")

    def skip_unless_defined(self, name: str) -> None:
        """Skip the test if the backend does not override an optional method."""
        if not self.defines(name):
            pytest.skip(f"{self.ref} does not define the optional {name}()")

    def skip_unless_limited(self) -> None:
        """Skip the test if the backend has no option that limits its size."""
        if self.limit_option is None:
            pytest.skip(f"{self.ref} has no limit of its own")
        if self.limit_option not in inspect.signature(self.cls).parameters:
            text = (
                f"{self.ref} has no option {self.limit_option!r}; "
                f"the attribute limit_option names another one"
            )
            if self.limit_option != DEFAULT_LIMIT_OPTION:  # misspelt: its tests would never run
                pytest.fail(text)
            pytest.skip(text)

    def skip_unless_sendable(self) -> None:
        """Skip the test if other processes cannot import the registered class."""
        if self.ref.registered is not None:
            try:
                pickle.dumps(dataclasses.replace(self.ref, options={}))
            except BrokenPluginError as error:
                pytest.skip(str(error))

    # ---- using it

    def new_namespace(self) -> str:
        """Return a namespace that nobody else uses."""
        return f"suite-{uuid.uuid4().hex}"

    def open(
        self, namespace: str | None = None, *, length: int = LENGTH, limit: int | None = None
    ) -> CacheBackend:
        """Open an instance, as the engine does; it is cleared and closed after the test.

        Args:
            namespace: The namespace; default that of the case.
            length: Number of keys.
            limit: Limit on its size, in bytes; default that of the options.
        """
        namespace = namespace or self.namespace
        keep = {"keep": 0.0} if self.keeps else {}
        ref = self.ref
        if limit is not None and self.limit_option is not None:
            ref = ref.with_options({self.limit_option: limit})
        backend: CacheBackend = ref.open(namespace, length, **keep)
        self._opened.append(backend)
        self._lengths[namespace] = length
        return backend

    def close(self, backend: CacheBackend) -> None:
        """Close an instance before the test ends."""
        self._opened = [other for other in self._opened if other is not backend]
        backend.close()

    def dataset(self, samples: Sequence[Any], **settings: Any) -> CachedDataset:
        """Wrap samples in a cache that is cleared and closed after the test."""
        from kappacore.caching.datasets import CachedDataset  # torch, for few tests only

        settings = {"namespace": self.new_namespace(), "strict": True, **settings}
        dataset = CachedDataset(samples, self.ref, **settings)
        self._datasets.append(dataset)
        self._lengths[dataset._cache.tiers[0].identity.namespace] = (
            len(samples) + 2
        )  # as the engine
        return dataset

    def fork(self, function: Callable[..., Any], *args: Any) -> Child:
        """Run a function in a forked process, which is ended after the test.

        The child opens instances of its own, as the engine would.
        """
        child = Child(self.timeout, self._in_child, function, *args)
        self._children.append(child)
        return child

    def _in_child(self, function: Callable[..., Any], *args: Any) -> Any:
        self._opened, self._datasets, self._children = [], [], []
        result = function(*args)
        self._close_opened()
        return result

    def end(self) -> None:
        """End and close what is left, and clear entries that other processes could still see."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_opened)
            stack.callback(self._clear_all)
            for dataset in self._datasets:
                stack.callback(dataset.close)
            for child in self._children:
                stack.callback(child.kill)

    def _clear_all(self) -> None:
        def clear() -> None:
            for namespace, length in self._lengths.items():
                self.open(namespace, length=length).clear()

        if self._lengths and self.shares and self.defines("clear"):
            if self._children:  # what held a lock when it was killed may have left it locked
                self.fork(clear).result()
            else:
                clear()

    def _close_opened(self) -> None:
        for backend in self._opened:
            backend.close()
        self._opened = []


# ---- processes


class Child:
    """A forked process that runs one function.

    Args:
        timeout: Seconds after which it counts as hung.
        function: The function; it is not pickled.
        *args: The function's arguments.
    """

    def __init__(self, timeout: float, function: Callable[..., Any], *args: Any) -> None:
        self._timeout = timeout
        context = multiprocessing.get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(sender, function, args), name="kappacore-suite", daemon=True
        )
        with forks_are_meant():
            self._process.start()
        sender.close()

    def result(self) -> Any:
        """Wait for the function to end and return its result; fail if it fails or hangs."""
        if not self._receiver.poll(self._timeout):
            self.kill()
            pytest.fail(f"a process that uses the backend hung for {self._timeout:.0f} s")
        try:
            ok, result = self._receiver.recv()
        except EOFError:
            self._process.join()
            ok, result = False, f"it ended with exit code {self._process.exitcode}"
        self._process.join(self._timeout)
        self.kill()
        if not ok:
            pytest.fail(f"in a child process: {result}")
        return result

    def kill(self) -> None:
        """End the process with SIGKILL, if it has not ended yet."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._receiver.close()


@contextlib.contextmanager
def forks_are_meant() -> Iterator[None]:
    """Ignore Python 3.12's warning of forks beside threads, which is how DataLoaders fork."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        yield


def _run(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        reply = (True, function(*args))
    except BaseException:
        reply = (False, traceback.format_exc())
    sender.send(reply)
    sender.close()


_PROGRAM = """\
import pickle, sys
path, code, arguments = pickle.load(sys.stdin.buffer)
sys.path[:] = path
exec(compile(code, "<suite>", "exec"), {"arguments": pickle.loads(arguments)})
"""


def run_program(timeout: float, code: str, *arguments: Any) -> str:
    """Run code in a new Python.

    Args:
        timeout: Seconds after which it counts as hung.
        code: The program; its global ``arguments`` holds the arguments.
        *arguments: Values that can be pickled.

    Returns:
        The program's output.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and the suite's own code
            [sys.executable, "-c", _PROGRAM],
            input=pickle.dumps((sys.path, code, pickle.dumps(arguments))),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"a process that uses the backend hung for {timeout:.0f} s")
    if done.returncode:
        pytest.fail(f"in another Python: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()
