"""One test's use of the backend under test."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import pickle
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kappacore.caching.backends.base import CacheBackend, backend_class, takes_keep
from kappacore.errors import BrokenPluginError
from kappacore.testing.caching.children import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.caching.datasets import CachedDataset
    from kappacore.plugins import PluginRef

__all__ = ["LENGTH", "Case"]

LENGTH = 32  # keys of a namespace


class Case:
    """Opens backends, forks processes, and leaves nothing of them behind.

    Args:
        ref: the backend under test and its options.
        limit_option: name of the option that limits its size; None if it has none.
        timeout: seconds after which a child hangs.
    """

    def __init__(self, ref: PluginRef, limit_option: str | None, timeout: float) -> None:
        self.ref = ref
        self.cls = backend_class(ref)
        self.limit_option = limit_option
        self.timeout = timeout
        #: The namespace that is used where none is named.
        self.namespace = self.new_namespace()
        self._opened: list[CacheBackend] = []
        self._lengths: dict[str, int] = {}  # of the namespaces that were opened
        self._datasets: list[CachedDataset] = []
        self._children: list[Child] = []

    # ---- what the backend is

    @property
    def shares(self) -> bool:
        """Whether its scope says that other processes see its entries."""
        return self.cls.scope != "process"

    @property
    def keeps(self) -> bool:
        """Whether the backend looks after the lifetime of its entries itself."""
        return takes_keep(self.cls)

    def defines(self, name: str) -> bool:
        """Tell whether the backend overrides an optional method."""
        return getattr(self.cls, name) is not getattr(CacheBackend, name)

    def skip_unless_shared(self) -> None:
        """Skip the test where other processes need not see the entries."""
        if not self.shares:
            pytest.skip(f"{self.ref}: its scope 'process' promises nothing to other processes")

    def skip_unless_defined(self, name: str) -> None:
        """Skip the test where the backend does not override an optional method."""
        if not self.defines(name):
            pytest.skip(f"{self.ref} does not define the optional {name}()")

    def skip_unless_limited(self) -> None:
        """Skip the test where the backend has no option that limits its size."""
        if self.limit_option is None:
            pytest.skip(f"{self.ref} has no limit of its own")
        if self.limit_option not in inspect.signature(self.cls).parameters:
            pytest.skip(
                f"{self.ref} has no option {self.limit_option!r}; "
                f"the attribute limit_option names another one"
            )

    def skip_unless_sendable(self) -> None:
        """Skip the test where the backend was registered in a place that cannot be imported."""
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
            namespace: default that of the case.
            length: number of keys.
            limit: on its size, in bytes; default that of the options.
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
        """Put a cache above samples; it is cleared and closed after the test."""
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
        """End and close what is left, and clear what other processes could still see."""
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
            self.fork(clear).result()  # a child, since a backend that a test has broken may hang

    def _close_opened(self) -> None:
        for backend in self._opened:
            backend.close()
        self._opened = []
