"""Wall time around device work."""

import time
from types import TracebackType

import torch


class Stopwatch:
    """Seconds that its block takes, with all work that the block gave to the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
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


def now(device: torch.device) -> float:
    """Seconds on a steady clock, after all work queued on `device` is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
