"""Where the time of an epoch went: waiting for data, or for the step."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LoaderStats"]


@dataclass
class LoaderStats:
    """What one iteration over a Loader did, on this rank.

    Attributes:
        epoch: The epoch.
        batches: The number of batches given out.
        samples: The number of their rows.
        seconds_data: Seconds that the loop waited for batches: the data limits the epoch.
        seconds_step: Seconds that reading ahead waited for the loop: the step limits it.
    """

    epoch: int
    batches: int = 0
    samples: int = 0
    seconds_data: float = 0.0
    seconds_step: float = 0.0
