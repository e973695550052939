"""Memory of one measurement, on the device that computes."""

from dataclasses import dataclass

import torch

from selfdraft.bench.run.peak_memory import peak_bytes, reset_peak, resident_bytes


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of a block. The process holds the models of all methods, so `extra` compares them."""

    peak_bytes: int | None
    """The most that was held at once; None where it cannot be measured."""
    extra_bytes: int | None
    """The peak less what was held before."""


class MemoryMeter:
    """Measures from when it is made to `read`: allocated on a GPU, resident on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._device = device
        self._before: int | None = None
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        elif device.type == "cpu" and reset_peak():
            self._before = resident_bytes()

    def read(self) -> MemoryUse:
        """The peak since then."""
        if self._before is None:
            return MemoryUse(None, None)
        peak = torch.cuda.max_memory_allocated(self._device) if self._is_cuda else peak_bytes()
        return MemoryUse(peak, max(0, peak - self._before))
