"""Products with 4-bit weights that take as long as these take to read, where the CPU can.

`_int4_dot.c` is built when the package is installed, if there is a GCC, and needs
AVX512-VNNI; without it drafts run by torch's kernel (`low_bit_linear.Int4Linear`), which is slower.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from selfdraft.model.compiled import Kernel, load_kernel
from selfdraft.model.rounding import GROUP, Int4Groups
from selfdraft.model.siblings import pack_parts

_VERSION = 2  # of layout and arguments; a build from before a change of them is not used
_OUTPUTS = 16  # of one block of weights
_BLOCK_BYTES = _OUTPUTS * (GROUP // 2 + 4)
_FEATURE_BYTES = GROUP + 12  # of a group of rounded features


class RoundedWeight(Protocol):
    """A weight as `lay_out` makes it, and what belongs to it."""

    blocks: Tensor
    bias: Tensor | None
    out_features: int


@lru_cache
def _kernel() -> Kernel | None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments: list[type] = [pointer, ctypes.c_char_p, *[number] * 3, pointer, ctypes.c_int]
    return load_kernel("int4_dot", _VERSION, arguments)


def is_there() -> bool:
    """Whether the kernel was built, and this CPU can run it."""
    return _kernel() is not None


def products(features: Tensor, linears: Sequence[RoundedWeight]) -> list[Tensor]:
    """`features`, `[..., in_features]` in bfloat16, times each weight: `[..., out_features]`.

    One call of the kernel, for weights of the same number of inputs.
    """
    kernel = _kernel()
    assert kernel is not None, "asked for only where it is there"
    num_inputs = features.shape[-1]
    is_readable = features.is_cpu and features.dtype == torch.bfloat16
    if not (is_readable and all(_is_for(num_inputs, linear.blocks) for linear in linears)):
        shapes = [tuple(linear.blocks.shape) for linear in linears]
        raise RuntimeError(
            f"cannot multiply {features.dtype} features {tuple(features.shape)} on "
            f"{features.device} by blocks {shapes}"
        )
    features = features.contiguous()
    products = [features.new_empty(*features.shape[:-1], linear.out_features) for linear in linears]
    room = torch.empty(num_inputs // GROUP * _FEATURE_BYTES, dtype=torch.uint8)
    pairs = zip(linears, products, strict=True)
    kernel(
        features.data_ptr(),
        pack_parts((linear.blocks, linear.bias, product) for linear, product in pairs),
        len(products),
        features.numel() // num_inputs,
        num_inputs,
        room.data_ptr(),
        torch.get_num_threads(),
    )
    return products


def _is_for(num_inputs: int, blocks: Tensor) -> bool:
    is_as_laid_out = blocks.shape[1] * GROUP == num_inputs and blocks.shape[2] == _BLOCK_BYTES
    return blocks.is_cpu and blocks.is_contiguous() and is_as_laid_out


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
