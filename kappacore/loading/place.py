"""Where a Loader is: the epoch of its next iteration, and the position at which that begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kappacore._warn import warn
from kappacore.errors import LateEpochWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Place", "Progress"]


@dataclass
class Progress:
    """How far an iteration has come.

    Args:
        epoch: Its epoch.
        position: The position at which one begins that goes on from here.
        begun: Whether it gave out anything.
        over: Whether it gave out the last batch, as far as known.
        finished: Whether it came to its end.
        later: The epoch that was set meanwhile, for the next iteration.
    """

    epoch: int
    position: int
    begun: bool = False
    over: bool = False
    finished: bool = False
    later: int | None = None

    def give_out(self, position: int, over: bool) -> None:
        """Note a batch that is given out.

        Args:
            position: The position at which the next one begins.
            over: Whether it is the last.
        """
        self.position, self.begun, self.over = position, True, over
        if self.later is not None:
            warn(
                f"set_epoch({self.later}) came while an iteration of epoch {self.epoch} runs, "
                f"which goes on as epoch {self.epoch}: the next one is epoch {self.later}. Set the "
                f"epoch before the iteration begins.",
                LateEpochWarning,
            )
            self.later = None


class Place:
    """The place of a Loader, which iterations, :meth:`set` and states move.

    Attributes:
        epoch: The epoch of the last iteration, or else of the next.
        start: The position at which that begins, counted over all ranks.
    """

    def __init__(self) -> None:
        self.epoch, self.start = 0, 0
        self._over = False  # whether a loaded state is of an epoch of which no batch is left
        self._loaded = False  # whether a state says so
        self._progress: Progress | None = None  # of the last iteration
        self._late: Progress | None = None  # of the one during which the epoch was set

    def next(self, left: Callable[[int], int] | None) -> tuple[int, int]:
        """Return the epoch and the position of an iteration that begins now.

        Args:
            left: Returns the number of batches that this rank has from a position on. Where ranks
                differ by a batch, a state that is in the epoch for one is after it for another.
                None: what the state says counts.
        """
        over = self._over if self._progress is None else self._progress.begun
        if self._progress is None and self._loaded and self.start and left is not None:
            over = not left(self.start)
        return (self.epoch + 1, 0) if over else (self.epoch, self.start)

    def begin(self, left: Callable[[int], int] | None) -> Progress:
        """Begin an iteration.

        Args:
            left: As for :meth:`next`.
        """
        self.epoch, self.start = self.next(left)
        if self._late is not None:
            self._late.later = None
        self._late = None
        self._over = self._loaded = False
        self._progress = Progress(self.epoch, self.start)
        return self._progress

    def set(self, epoch: int) -> Progress | None:
        """Let the next iteration be an epoch; that of a loaded state goes on where it says.

        An iterator that gave nothing begins no epoch, and may be the one that is used: its progress
        is returned if the epoch was another one until now.
        """
        progress = self._progress
        if progress is not None and not progress.begun:
            if epoch == self.epoch:
                return None
            self.epoch, self.start = progress.epoch, progress.position = epoch, 0
            return progress
        if progress is not None and not progress.finished and epoch != progress.epoch:
            progress.later, self._late = epoch, progress
        if epoch != self.epoch or progress is not None:
            self.start = 0
        self.epoch, self._progress = epoch, None
        self._over = self._loaded = False
        return None

    def state(self) -> dict[str, Any]:
        """Return where the last iteration is; plain data."""
        epoch, position, over = self.epoch, self.start, self._over
        progress = self._progress
        if progress is not None and progress.finished:
            epoch, position, over = progress.epoch + 1, 0, False
        elif progress is not None:
            epoch, position, over = progress.epoch, progress.position, progress.over
        return {"epoch": epoch, "position": position, "over": over}

    def load(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration begin where a state says."""
        self.epoch, self.start = int(state["epoch"]), int(state["position"])
        self._over, self._loaded = bool(state.get("over", False)), True
        self._progress = None
