"""Linears with weights in few bits, run by torch's own CPU kernels or by ours (`int4_dot`).

They are fast for one row, which reads a half or a third of the bytes, and lose that with more
(torch's from about eight rows on, ours reads the weights anew for each): a draft steps one row at a
time.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from selfdraft.model.kernels import int4_dot
from selfdraft.model.kernels.rounding import GROUP, round_to_4_bits, round_to_8_bits
from selfdraft.model.kernels.shared_input import SharedInput, product_of
from selfdraft.storage.tensor_file import TensorForm

_KERNEL_ROWS = 16  # the int4 kernels' out_features are a multiple of it
_PACK_ROWS = 64  # it packs so many rows together
_PIECE = 2**20  # weights that are rounded at once, so that the work in float32 stays in the cache
_NUM_RESCORED = 16


class RoundedLinear(nn.Module, ABC):
    """A linear with weights in few bits: buffers of one kernel's own layout."""

    def __init__(
        self, tensors: Mapping[str, Tensor], bias: Tensor | None, shape: tuple[int, int]
    ) -> None:
        """The linear whose weight of `shape` was rounded before; `tensors` are as `forms` says."""
        super().__init__()
        self.bias = bias
        self.out_features, self.in_features = shape
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def round(cls, weight: Tensor, bias: Tensor | None) -> Self:
        """Round `weight`, of shape `[out_features, in_features]`, without calibration."""
        return cls(cls._rounded(weight), bias, (weight.shape[0], weight.shape[1]))

    def forward(self, features: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        rows = features.reshape(-1, features.shape[-1])
        product = self._product(rows)[:, : self.out_features]
        if self.bias is not None:
            product = product + self.bias
        return product.reshape(*features.shape[:-1], self.out_features)

    @staticmethod
    @abstractmethod
    def forms(num_rows: int, num_columns: int, dtype: torch.dtype) -> dict[str, TensorForm]:
        """The buffers for a weight of this shape and dtype."""

    @staticmethod
    @abstractmethod
    def _rounded(weight: Tensor) -> dict[str, Tensor]:
        """The buffers for this weight."""

    def _product(self, rows: Tensor) -> Tensor:
        """`[rows, in_features]` to `[rows, out_features]`, or more outputs than count."""
        raise NotImplementedError


class Int8Linear(RoundedLinear):
    """A linear with 8-bit weights, one scale for each output."""

    @staticmethod
    def forms(num_rows: int, num_columns: int, dtype: torch.dtype) -> dict[str, TensorForm]:
        """The buffers for a weight of this shape and dtype."""
        return {
            "codes": TensorForm(torch.int8, (num_rows, num_columns)),
            "scales": TensorForm(dtype, (num_rows,)),
        }

    @staticmethod
    def _rounded(weight: Tensor) -> dict[str, Tensor]:
        pieces = [round_to_8_bits(piece) for piece in _pieces(weight)]
        codes, scales = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        return {"codes": codes, "scales": scales}

    def _product(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales)
        return product


class Int4Linear(RoundedLinear):
    """A linear with 4-bit weights, a scale and a zero point for each group of inputs."""

    @staticmethod
    def forms(num_rows: int, num_columns: int, dtype: torch.dtype) -> dict[str, TensorForm]:
        """The buffers for a weight of this shape and dtype."""
        num_padded = _padded_rows(num_rows)
        return {
            "codes": TensorForm(torch.uint8, (num_padded, num_columns // 2)),
            "scales": TensorForm(dtype, (num_columns // GROUP, num_padded, 2)),
        }

    @staticmethod
    def _rounded(weight: Tensor) -> dict[str, Tensor]:
        packed, scales = [], []
        for piece in _pieces(weight):
            codes, scales_and_zeros = round_to_4_bits(_padded(piece))
            packed.append(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1))
            scales.append(scales_and_zeros)
        return {"codes": torch.cat(packed), "scales": torch.cat(scales, dim=1)}

    def _product(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, self.codes, GROUP, self.scales
        )
        return product


class Int4DotLinear(RoundedLinear):
    """A 4-bit linear for our own kernel, which rounds features, scales and zeros to 8 bits."""

    tiles: Tensor
    shared_input: SharedInput["Int4DotLinear"] | None = None

    @staticmethod
    def forms(num_rows: int, num_columns: int, dtype: torch.dtype) -> dict[str, TensorForm]:
        """The buffers for a weight of this shape and dtype."""
        return {"tiles": TensorForm(torch.uint8, int4_dot.tiles_shape(num_rows, num_columns))}

    @staticmethod
    def _rounded(weight: Tensor) -> dict[str, Tensor]:
        tiles = [int4_dot.lay_out(round_to_4_bits(_padded(piece))) for piece in _pieces(weight)]
        return {"tiles": torch.cat(tiles)}

    def forward(self, features: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        return product_of(self, features)

    def multiply(self, linears: Sequence["Int4DotLinear"], features: Tensor) -> list[Tensor]:
        """The products of `features` with each of `linears`."""
        return int4_dot.products(features, linears)


def linear_kind(bits: int, dtype: torch.dtype) -> type[RoundedLinear]:
    """How this machine computes fastest with weights of `dtype` rounded to `bits`."""
    if bits == 8:
        return Int8Linear
    return Int4DotLinear if dtype == torch.bfloat16 and int4_dot.is_there() else Int4Linear


class RescoredHead(nn.Module):
    """A language-modelling head in few bits, whose best tokens get the target's own logits.

    Rounding the head costs more agreement than rounding all layers. To read the target's rows of
    the few best tokens costs nothing to speak of and repairs it.
    """

    def __init__(self, rough: RoundedLinear, weight: Tensor) -> None:
        super().__init__()
        self._rough = rough
        self._weight = weight  # the target's own, not a copy

    @property
    def rough(self) -> nn.Module:
        """The head in few bits."""
        return self._rough

    def forward(self, features: Tensor) -> Tensor:
        """`[..., in_features]` to logits `[..., vocabulary]`."""
        logits: Tensor = self._rough(features)
        num_best = min(_NUM_RESCORED, logits.shape[-1])
        best = logits.float().topk(num_best, dim=-1).indices  # twice as fast as in bfloat16
        exact = (self._weight[best] @ features[..., None])[..., 0]
        if self._rough.bias is not None:
            exact = exact + self._rough.bias[best]
        return logits.scatter(-1, best, exact)


def _pieces(weight: Tensor) -> tuple[Tensor, ...]:
    num_blocks = max(1, _PIECE // weight.shape[1] // _PACK_ROWS)
    return torch.split(weight, num_blocks * _PACK_ROWS)


def _padded(rows: Tensor) -> Tensor:
    missing = _padded_rows(rows.shape[0]) - rows.shape[0]
    return nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _padded_rows(num_rows: int) -> int:
    return -(-num_rows // _KERNEL_ROWS) * _KERNEL_ROWS
