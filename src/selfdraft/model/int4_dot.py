"""Products with 4-bit weights that take as long as these take to read, where the CPU can.

`_int4_dot.c` is built when the package is installed, if there is a GCC, and needs
AVX512-VNNI; without it drafts run by torch's kernel (`low_bit_linear.Int4Linear`), which is slower.
"""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from selfdraft.model.compiled import Kernel, load_kernel
from selfdraft.model.rounding import GROUP, Int4Groups

_VERSION = 1  # of layout and arguments; a build from before a change of them is not used
_OUTPUTS = 16  # of one block of weights
_BLOCK_BYTES = _OUTPUTS * (GROUP // 2 + 4)
_FEATURE_BYTES = GROUP + 12  # of a group of rounded features


@lru_cache
def _kernel() -> Kernel | None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments: list[type] = [*[pointer] * 3, *[number] * 3, pointer, ctypes.c_int]
    return load_kernel("int4_dot", _VERSION, arguments)


def is_there() -> bool:
    """Whether the kernel was built, and this CPU can run it."""
    return _kernel() is not None


def product(rows: Tensor, blocks: Tensor) -> Tensor:
    """`rows`, `[rows, in_features]` in bfloat16, times weights: `[rows, out_features]`."""
    kernel = _kernel()
    assert kernel is not None, "asked for only where it is there"
    num_tiles, num_groups, _ = blocks.shape
    num_rows, num_outputs = rows.shape[0], num_tiles * _OUTPUTS
    rows = rows.contiguous()
    is_on_cpu = rows.device.type == blocks.device.type == "cpu"
    is_as_laid_out = blocks.is_contiguous() and blocks.shape[2] == _BLOCK_BYTES
    is_row = rows.dtype == torch.bfloat16 and rows.shape[1] == num_groups * GROUP
    if not (is_on_cpu and is_as_laid_out and is_row):
        raise RuntimeError(
            f"cannot multiply {rows.dtype} rows {tuple(rows.shape)} on {rows.device} by blocks "
            f"{tuple(blocks.shape)} on {blocks.device}"
        )
    products = rows.new_empty(num_rows, num_outputs)
    room = torch.empty(num_groups * _FEATURE_BYTES, dtype=torch.uint8)
    kernel(
        rows.data_ptr(),
        blocks.data_ptr(),
        products.data_ptr(),
        num_rows,
        num_outputs,
        num_groups * GROUP,
        room.data_ptr(),
        torch.get_num_threads(),
    )
    return products


def blocks_shape(num_rows: int, num_columns: int) -> tuple[int, int, int]:
    """The shape of what `lay_out` makes of a weight, with its rows padded."""
    return -(-num_rows // _OUTPUTS), num_columns // GROUP, _BLOCK_BYTES


def lay_out(rounded: Int4Groups) -> Tensor:
    """The blocks that the kernel reads, `[rows / 16, groups, 320]`; rows are a multiple of 16."""
    num_rows, num_columns = rounded.codes.shape
    num_tiles, num_groups = num_rows // _OUTPUTS, num_columns // GROUP
    fours = rounded.codes.to(torch.uint8).view(num_tiles, _OUTPUTS, num_groups, 4, 2, 4)
    halves = fours[..., 0, :] | fours[..., 1, :] << 4
    codes = halves.permute(0, 2, 3, 1, 4).reshape(num_tiles, num_groups, -1)
    # [groups, rows, 2] to [tiles, groups, scales of 16 rows, then their zeros].
    grid = rounded.scales_and_zeros.view(num_groups, num_tiles, _OUTPUTS, 2).permute(1, 0, 3, 2)
    return torch.cat([codes, grid.contiguous().view(torch.uint8).flatten(2)], dim=-1)
