"""Reading ahead in one thread."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Takes what an iterator gives in a thread of its own, ``ahead`` entries ahead at most.

    An exception of the iterator is raised where its entry is asked for. The thread ends with the
    iterator, with :meth:`close`, or when this object is no longer used.

    Args:
        entries: The iterator; only the thread uses it from now on.
        ahead: The number of entries that are read or being read, and not yet asked for.
    """

    def __init__(self, entries: Iterator[T], ahead: int) -> None:
        self._state = _State(ahead)
        self._thread = threading.Thread(
            target=_run, args=(entries, self._state), name="kappacore-loader", daemon=True
        )
        self._thread.start()
        # Holds no reference to self; runs at the latest when the program ends.
        self.close: Callable[[], Any] = weakref.finalize(self, _stop, self._state, self._thread)

    @property
    def seconds_waited(self) -> float:
        """Seconds that the thread has waited until it might go on."""
        return self._state.seconds_waited

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._state.ended:
            raise StopIteration
        entry, error = self._state.ready.get()
        self._state.room.release()
        if error is None:
            value: T = entry
            return value
        self._state.ended = True
        self.close()
        if isinstance(error, StopIteration):
            raise StopIteration
        try:
            raise error
        finally:
            del error  # it holds this frame, and that of the loop with its last batch


class _State:
    """What the thread and its user share."""

    def __init__(self, ahead: int) -> None:
        self.room = threading.Semaphore(ahead)
        self.ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self.stopped = False
        self.ended = False
        self.seconds_waited = 0.0


def _run(entries: Iterator[Any], state: _State) -> None:
    try:
        while True:
            started = time.perf_counter()
            state.room.acquire()
            state.seconds_waited += time.perf_counter() - started
            if state.stopped:
                break
            state.ready.put((next(entries), None))
    except BaseException as error:  # StopIteration as well: all are raised where they are due
        state.ready.put((None, error))
    finally:
        close = getattr(entries, "close", None)
        if close is not None:  # of a generator, in the thread that ran it
            close()


def _stop(state: _State, thread: threading.Thread) -> None:
    state.stopped = True
    state.ended = True
    state.room.release()
    if thread is not threading.current_thread():
        thread.join()
