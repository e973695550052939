"""Weights rounded to few bits, without calibration: nothing but the weights is looked at.

Int8 has one scale for each row. Int4 has a scale and a zero point for each group of 32 weights of
a row, fitted by least squares to the nearest codes: on models whose file had 4 bits in blocks of
32 it finds most of that grid again, and on others smaller groups are better too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 32  # the smallest group that torch's int4 kernels take
_TINY = 1e-8  # of a group whose weights are all equal


class Int8Rows(NamedTuple):
    """`weight[n, k] = codes[n, k] * scales[n]`."""

    codes: Tensor
    scales: Tensor


class Int4Groups(NamedTuple):
    """`weight[n, k] = (codes[n, k] - 8) * scales[k // 32, n] + zeros[k // 32, n]`.

    `codes` are int32 of 0 to 15; scales and zeros are stacked in the last dimension, as the kernel
    takes them: `[in_features / 32, out_features, 2]`.
    """

    codes: Tensor
    scales_and_zeros: Tensor


def round_to_8_bits(weight: Tensor) -> Int8Rows:
    """Every row of `weight` in 255 steps around zero."""
    wide = weight.float()
    scales = (wide.abs().amax(dim=1) / 127).clamp(min=_TINY).to(weight.dtype)
    codes = (wide / scales.float()[:, None]).round_().clamp_(-127, 127)
    return Int8Rows(codes.to(torch.int8), scales)


def round_to_4_bits(weight: Tensor) -> Int4Groups:
    """Every group of a row of `weight` in 16 steps; in_features must be divisible by the group."""
    num_rows, num_columns = weight.shape
    wide = weight.float().reshape(num_rows, num_columns // GROUP, GROUP)
    low, high = torch.aminmax(wide, dim=-1)
    scales = _stored((high - low) / 15, weight.dtype).clamp(min=_TINY)
    zeros = _stored(low + 8 * scales, weight.dtype)
    scales, zeros = _refined(wide, scales, zeros, weight.dtype)
    codes = _nearest(wide, scales, zeros).add_(8).to(torch.int32).reshape(num_rows, num_columns)
    stacked = torch.stack([scales.T, zeros.T], dim=-1).to(weight.dtype)
    return Int4Groups(codes, stacked.contiguous())


def _refined(
    wide: Tensor, scales: Tensor, zeros: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The least-squares line through (code, weight) of each group, where it is closer."""
    codes = _nearest(wide, scales, zeros)
    mean_code, mean_weight = codes.mean(dim=-1), wide.mean(dim=-1)
    spread = codes.square().mean(dim=-1) - mean_code.square()
    slope = ((codes * wide).mean(dim=-1) - mean_code * mean_weight) / spread.clamp(min=_TINY)
    fitted_scales = _stored(torch.where(slope > 0, slope, scales), dtype).clamp(min=_TINY)
    fitted_zeros = _stored(mean_weight - fitted_scales * mean_code, dtype)
    before = _squared_error(wide, codes, scales, zeros)
    after = _squared_error(wide, codes, fitted_scales, fitted_zeros)
    is_closer = after < before
    return (
        torch.where(is_closer, fitted_scales, scales),
        torch.where(is_closer, fitted_zeros, zeros),
    )


def _nearest(wide: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    return ((wide - zeros[..., None]) / scales[..., None]).round_().clamp_(-8, 7)


def _squared_error(wide: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    rounded = torch.addcmul(zeros[..., None], codes, scales[..., None])
    return rounded.sub_(wide).square_().sum(dim=-1)


def _stored(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """`numbers` as they will be read: rounded to the target's dtype."""
    return numbers.to(dtype).float()
