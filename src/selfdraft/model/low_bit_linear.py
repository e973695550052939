"""Linears with weights in few bits, run by torch's own CPU kernels.

They are fast for one row, which reads a half or a third of the bytes, and lose that from about
eight rows on: a draft steps one row at a time.
"""

import torch
from torch import Tensor, nn

from selfdraft.model.rounding import GROUP, round_to_4_bits, round_to_8_bits
from selfdraft.model.tensor_file import TensorForm

_KERNEL_ROWS = 16  # the int4 kernel's out_features are a multiple of it
_PACK_ROWS = 64  # it packs so many rows together
_PIECE = 2**20  # weights that are rounded at once, so that the work in float32 stays in the cache
_NUM_RESCORED = 16


class Int8Linear(nn.Module):
    """A linear with 8-bit weights, one scale for each output."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        pieces = [round_to_8_bits(piece) for piece in _pieces(weight)]
        codes, scales = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        self._become(codes, scales, bias)

    @classmethod
    def of_rounded(
        cls, codes: Tensor, scales: Tensor, bias: Tensor | None, num_outputs: int
    ) -> "Int8Linear":
        """The linear whose weight was rounded before."""
        linear = cls.__new__(cls)
        linear._become(codes, scales, bias)
        return linear

    @staticmethod
    def forms(num_rows: int, num_columns: int, dtype: torch.dtype) -> dict[str, TensorForm]:
        """The buffers for a weight of this shape and dtype."""
        return {
            "codes": TensorForm(torch.int8, (num_rows, num_columns)),
            "scales": TensorForm(dtype, (num_rows,)),
        }

    def forward(self, features: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        rows = features.reshape(-1, features.shape[-1])
        product: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales)
        return _finish(product, self.bias, features)

    def _become(self, codes: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        nn.Module.__init__(self)
        self.bias = bias
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)


class Int4Linear(nn.Module):
    """A linear with 4-bit weights, a scale and a zero point for each group of inputs."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        packed, scales = [], []
        for piece in _pieces(weight):
            codes, scales_and_zeros = round_to_4_bits(_padded(piece))
            packed.append(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1))
            scales.append(scales_and_zeros)
        self._become(torch.cat(packed), torch.cat(scales, dim=1), bias, weight.shape[0])

    @classmethod
    def of_rounded(
        cls, codes: Tensor, scales: Tensor, bias: Tensor | None, num_outputs: int
    ) -> "Int4Linear":
        """The linear whose weight was rounded and packed before."""
        linear = cls.__new__(cls)
        linear._become(codes, scales, bias, num_outputs)
        return linear

    @staticmethod
    def forms(num_rows: int, num_columns: int, dtype: torch.dtype) -> dict[str, TensorForm]:
        """The buffers for a weight of this shape and dtype."""
        num_padded = -(-num_rows // _KERNEL_ROWS) * _KERNEL_ROWS
        return {
            "codes": TensorForm(torch.uint8, (num_padded, num_columns // 2)),
            "scales": TensorForm(dtype, (num_columns // GROUP, num_padded, 2)),
        }

    def forward(self, features: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        rows = features.reshape(-1, features.shape[-1])
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, self.codes, GROUP, self.scales
        )
        return _finish(product[:, : self._num_outputs], self.bias, features)

    def _become(self, codes: Tensor, scales: Tensor, bias: Tensor | None, num_outputs: int) -> None:
        nn.Module.__init__(self)
        self.bias = bias
        self._num_outputs = num_outputs
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)


class RescoredHead(nn.Module):
    """A language-modelling head in few bits, whose best tokens get the target's own logits.

    Rounding the head costs more agreement than rounding all layers. To read the target's rows of
    the few best tokens costs nothing to speak of and repairs it.
    """

    def __init__(self, rough: Int4Linear | Int8Linear, weight: Tensor) -> None:
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
    missing = -rows.shape[0] % _KERNEL_ROWS
    return nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _finish(product: Tensor, bias: Tensor | None, features: Tensor) -> Tensor:
    if bias is not None:
        product = product + bias
    return product.reshape(*features.shape[:-1], product.shape[-1])
