"""Products with 4-bit weights that take as long as these take to read, where the CPU can.

`csrc/int4_dot.c` is built when the package is installed, if there is a GCC, and needs
AVX512-VNNI; without it drafts run by torch's kernel (`low_bit_linear.Int4Linear`), which is slower.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn

from selfdraft.model.kernels.compiled import Kernel, load_kernel
from selfdraft.model.kernels.rounding import GROUP, Int4Groups
from selfdraft.model.kernels.shared_input import pack_parts

_VERSION = 3  # of layout and arguments; a build from before a change of them is not used
_OUTPUTS = 16  # of a tile of weights
_UNIT_BYTES = 2 * _OUTPUTS * 2
_BLOCK_BYTES = 2 * _OUTPUTS * (GROUP // 2 + 2)  # of two groups
_TINY = 1e-30  # where all scales or zeros of a row are none


class RoundedWeight(Protocol):
    """A weight as `lay_out` makes it, and what belongs to it."""

    tiles: Tensor
    bias: Tensor | None
    in_features: int
    out_features: int


@lru_cache
def _kernel() -> Kernel | None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments: list[type] = [pointer, ctypes.c_char_p, *[number] * 3, ctypes.c_int]
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
    if not (is_readable and all(_is_as_laid_out(linear, num_inputs) for linear in linears)):
        shapes = [(linear.out_features, linear.in_features) for linear in linears]
        raise RuntimeError(
            f"cannot multiply {features.dtype} features {tuple(features.shape)} on "
            f"{features.device} by 4-bit weights {shapes}"
        )
    features = features.contiguous()
    products = [features.new_empty(*features.shape[:-1], linear.out_features) for linear in linears]
    pairs = zip(linears, products, strict=True)
    kernel(
        features.data_ptr(),
        pack_parts((linear.tiles, linear.bias, product) for linear, product in pairs),
        len(products),
        features.numel() // num_inputs,
        num_inputs,
        torch.get_num_threads(),
    )
    return products


def _is_as_laid_out(linear: RoundedWeight, num_inputs: int) -> bool:
    tiles = linear.tiles
    is_whole = tiles.shape[1] == _tile_bytes(num_inputs) and tiles.is_contiguous()
    return tiles.is_cpu and linear.in_features == num_inputs and is_whole


def _tile_bytes(num_inputs: int) -> int:
    return _UNIT_BYTES + -(-num_inputs // (2 * GROUP)) * _BLOCK_BYTES


def tiles_shape(num_rows: int, num_columns: int) -> tuple[int, int]:
    """The shape of what `lay_out` makes of a weight, with its rows padded."""
    return -(-num_rows // _OUTPUTS), _tile_bytes(num_columns)


def lay_out(rounded: Int4Groups) -> Tensor:
    """The tiles that the kernel reads, `[rows / 16, bytes]`; rows are a multiple of 16.

    Scales and zeros become steps of 8 bits, the largest of a row 255 and 127 of them.
    """
    codes, scales, zeros = rounded.codes, *rounded.scales_and_zeros.float().unbind(-1)
    if scales.shape[0] % 2:
        codes = nn.functional.pad(codes, (0, GROUP))
        scales, zeros = (nn.functional.pad(grid, (0, 0, 0, 1)) for grid in (scales, zeros))
    num_tiles, num_blocks = codes.shape[0] // _OUTPUTS, scales.shape[0] // 2
    fours = codes.to(torch.uint8).view(num_tiles, _OUTPUTS, num_blocks, 2, 4, 2, 4)
    halves = fours[..., 0, :] | fours[..., 1, :] << 4
    units, grids = zip(
        _steps(scales, 255, torch.uint8), _steps(zeros, 127, torch.int8), strict=True
    )
    blocks = torch.cat(
        [
            halves.permute(0, 2, 3, 4, 1, 5).reshape(num_tiles, num_blocks, -1),
            # [groups, rows] to [tiles, blocks, 16 rows of each group].
            *(
                grid.view(torch.uint8)
                .view(num_blocks, 2, num_tiles, _OUTPUTS)
                .permute(2, 0, 1, 3)
                .reshape(num_tiles, num_blocks, -1)
                for grid in grids
            ),
        ],
        dim=-1,
    )
    heads = torch.cat([unit.view(num_tiles, _OUTPUTS) for unit in units], dim=-1)
    return torch.cat([heads.view(torch.uint8), blocks.flatten(1)], dim=-1)


def _steps(grid: Tensor, num_steps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What a step is worth in each row, and the `grid`, `[groups, rows]`, in steps."""
    unit = (grid.abs().amax(dim=0) / num_steps).clamp(min=_TINY).bfloat16()
    return unit, (grid / unit).round().clamp(-num_steps, num_steps).to(dtype)
