"""Time-outs that grow with what is sent and received, and values that are too slow.

A socket's time-out is for a single piece that comes or goes, however slowly the pieces follow each
other; and what has left for the network says nothing about when its reply is due.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import redis

from kappacore.plugin_api import format_size

#: Bytes a second; what is slower over its whole length, and the time-out, is too slow.
RATE = 4 << 20
_SMALL = 64 << 10  # bytes of a request or reply that the socket's own time-out is enough for
_LARGE = 1 << 20  # bytes of a request that, and not the server, may be why no reply comes
_PIECE = 256 << 10  # bytes sent at once
_LEFT_ALONE = 600.0  # seconds


class TooSlowError(redis.TimeoutError):
    """A large value that came or went too slowly. The server may well answer others."""


class _Paced:
    """A socket of redis-py's, as far as it is used.

    Args:
        inner: The socket.
        timeout: Seconds that nothing may come or go.
    """

    def __init__(self, inner: Any, timeout: float) -> None:
        self._inner = inner
        self._timeout = timeout
        # Used for every request, so to be found sooner than by __getattr__.
        self.fileno = inner.fileno
        self.pending = getattr(inner, "pending", int)  # of TLS alone; int() is 0
        # Of the request that is sent or answered now.
        self._began = time.monotonic()
        self._sent = self._received = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sendall(self, data: Any) -> None:
        """Send a part of a request."""
        if self._received or not self._sent:
            self._began, self._sent, self._received = time.monotonic(), 0, 0
        if len(data) <= _SMALL:
            self._inner.sendall(data)
            self._sent += len(data)
            return
        left = memoryview(data)
        while left:
            sent = self._inner.send(left[:_PIECE])
            self._sent += sent
            left = left[sent:]
            self._check()

    def recv_into(self, buffer: Any) -> int:
        """Receive a part of the replies."""
        if self._sent > _SMALL:
            count = self._receive_late(buffer)
        else:
            count = int(self._inner.recv_into(buffer))
        self._received += count
        if self._received > _SMALL:
            self._check()
        return count

    def _receive_late(self, buffer: Any) -> int:
        """Receive a part of the replies to a request of which much may still be on its way."""
        self._inner.settimeout(max(self._timeout, self._allowed() - self._elapsed()))
        try:
            return int(self._inner.recv_into(buffer))
        except TimeoutError:
            if self._sent > _LARGE:
                raise self._too_slow() from None
            raise
        finally:
            self._inner.settimeout(self._timeout)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _allowed(self) -> float:
        return self._timeout + (self._sent + self._received) / RATE

    def _check(self) -> None:
        if self._elapsed() > self._allowed():
            raise self._too_slow()

    def _too_slow(self) -> TooSlowError:
        moved = format_size(self._sent + self._received)
        return TooSlowError(
            f"{moved} of a request took {self._elapsed():.1f} s, which is slower than "
            f"{format_size(RATE)} a second after timeout={self._timeout:g} s"
        )


class _PacedConnection:
    """To be put before a class of redis-py's connections."""

    def _connect(self: Any) -> Any:
        return _Paced(super()._connect(), self.socket_timeout)  # type: ignore[misc]


class _TCPConnection(_PacedConnection, redis.Connection):
    pass


class _TLSConnection(_PacedConnection, redis.SSLConnection):
    pass


class _SocketConnection(_PacedConnection, redis.UnixDomainSocketConnection):
    pass


#: By redis-py's class of connection, the same with time-outs that grow with the size.
PACED: dict[Any, Any] = {
    redis.Connection: _TCPConnection,
    redis.SSLConnection: _TLSConnection,
    redis.UnixDomainSocketConnection: _SocketConnection,
}


class SlowValues:
    """Which values were too slow, and are read from the source for a while.

    One that was too slow says little about others: only it is left alone. After two in a row, those
    of their size are, too.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Try all values again."""
        self._until: dict[int, float] = {}  # by key
        self._limit, self._limit_until = sys.maxsize, 0.0  # bytes
        self._last = 0  # bytes of the last one, if nothing as large has come or gone since

    def __bool__(self) -> bool:
        """Whether any value is left alone."""
        if self._until and time.monotonic() > max(self._until.values()):
            self.forget()
        return bool(self._until)

    @property
    def has_limit(self) -> bool:
        """Whether values are left alone for their size."""
        return time.monotonic() < self._limit_until

    def why_not(self, key: int, size: int) -> TooSlowError | None:
        """Return an error if a value is left alone.

        Args:
            key: Its key.
            size: Its size in bytes; 0 if it is not known.
        """
        now = time.monotonic()
        until = self._until.get(key, 0.0)
        if size >= self._limit and until < self._limit_until:
            until = self._until[key] = self._limit_until
        if now >= until:
            return None
        return TooSlowError(
            f"the value of sample {key} is left alone for {until - now:.0f} s more, as it, or two "
            f"of its size, came or went too slowly; raise timeout=, or lower max_value_bytes="
        )

    def leaves_alone(self, key: int) -> bool:
        """Return whether a value is left alone, as far as its key says it."""
        return time.monotonic() < self._until.get(key, 0.0)

    def note(self, key: int, size: int) -> None:
        """Note that a value was too slow.

        Args:
            key: Its key.
            size: Its size in bytes.
        """
        until = time.monotonic() + _LEFT_ALONE
        self._until[key] = until
        if self._last and size:
            limit = self._limit if self.has_limit else sys.maxsize
            self._limit, self._limit_until = min(limit, size, self._last), until
        self._last = size

    def note_success(self, size: int) -> None:
        """Note that a value of ``size`` bytes came or went in time."""
        if size >= self._last:
            self._last = 0
