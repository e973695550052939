"""Wall time around device work."""

import time
from types import TracebackType

import torch

from selfdraft.decoding.stats import Stats


class Stopwatch:
    """Adds the seconds spent inside its block to one field of `stats`."""

    def __init__(self, device: torch.device, stats: Stats, field: str) -> None:
        self._device, self._stats, self._field = device, stats, field
        self.seconds = 0.0
        """What the block took, once it is over."""

    def __enter__(self) -> "Stopwatch":
        self._start = now(self._device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = now(self._device) - self._start
        setattr(self._stats, self._field, getattr(self._stats, self._field) + self.seconds)


def now(device: torch.device) -> float:
    """Seconds on a steady clock, after all work queued on `device` is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
