"""Memory of large pages for weights: a pass reads all of them, page by page.

With pages of 4 KiB a processor looks up an address every 64 lines, through two tables in a virtual
machine, and its prefetcher stops at every border. Linux gives pages of 2 MiB where they are asked
for; elsewhere, and where it has none left, the memory is as any other.
"""

import mmap

import torch
from torch import Tensor, nn

_CHUNK = 64 * 2**20  # asked for at once, so that small tensors share large pages
_LINE = 64  # bytes; kernels read whole lines


class HugePages:
    """Room for tensors that stay: none is given back before all are dropped."""

    def __init__(self) -> None:
        self._chunk: mmap.mmap | None = None
        self._used = 0

    @torch.no_grad()
    def take(self, module: nn.Module) -> None:
        """Move the tensors of `module` that are on the CPU; what they are does not change.

        All of them, so that nothing keeps a file open that they were mapped from.
        """
        for tensor in (*module.parameters(), *module.buffers()):
            if _is_plain(tensor):
                tensor.data = self.copy(tensor.data)

    def copy(self, tensor: Tensor) -> Tensor:
        """`tensor`, contiguous, with a storage of its own."""
        if not hasattr(mmap, "MADV_HUGEPAGE"):
            return tensor.clone(memory_format=torch.contiguous_format)
        chunk = self._chunk_with(tensor.nbytes)
        room = torch.frombuffer(
            chunk, dtype=tensor.dtype, count=tensor.numel(), offset=self._used
        ).view(tensor.shape)
        self._used += -(-tensor.nbytes // _LINE) * _LINE
        return room.copy_(tensor)

    def _chunk_with(self, num_bytes: int) -> mmap.mmap:
        if self._chunk is None or self._used + num_bytes > len(self._chunk):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._chunk, self._used = mmap.mmap(-1, max(num_bytes, _CHUNK), flags), 0
            self._chunk.madvise(mmap.MADV_HUGEPAGE)
        return self._chunk


def _is_plain(tensor: Tensor) -> bool:
    is_own = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return is_own and tensor.device.type == "cpu" and tensor.numel() > 0
