"""Linears whose products take little longer than their weights take to read (ADR 15).

`csrc/tile_linear.c` is built when the package is installed, if there is a GCC, and needs AMX;
without it linears run by oneDNN, packed where they may be (`packing`). The weight stays what and
where it is, so a view of any model can have such linears, and the model itself never knows.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from selfdraft.model.kernels.compiled import Kernel, load_kernel
from selfdraft.model.kernels.packing import become, is_packable
from selfdraft.model.kernels.shared_input import SharedInput, pack_parts, product_of

_VERSION = 3  # of the arguments; a build from before a change of them is not used
_TILE = 16
_LEAST_OUTPUTS = 32
_INPUTS = 32

# The features of all rows are read once for every 32 outputs, so they have to stay in a core's
# second cache (2 MiB). Longer prompts are oneDNN's, which cuts them and the weights into pieces.
_MAX_FEATURES = 3 * 2**18


@lru_cache
def _kernel() -> Kernel | None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    arguments: list[type] = [pointer, ctypes.c_char_p, *[number] * 3, pointer, ctypes.c_int]
    return load_kernel("tile_linear", _VERSION, arguments)


def is_there() -> bool:
    """Whether the kernel was built, and this CPU can run it."""
    return _kernel() is not None


def tile_linears(model: nn.Module) -> dict[nn.Module, "TileLinear"]:
    """What stands for each plain linear of `model` in a view, where the kernel can compute it."""
    if not is_there():
        return {}
    return {part: TileLinear(part) for part in model.modules() if is_packable(part) and _fits(part)}


def _fits(linear: nn.Linear) -> bool:
    is_whole = linear.in_features % _INPUTS == 0 and linear.weight.is_contiguous()
    return is_whole and linear.out_features >= _LEAST_OUTPUTS


def _is_readable(tensor: Tensor) -> bool:
    """Not so any more, if somebody has moved or converted it since."""
    return tensor.is_cpu and tensor.dtype == torch.bfloat16


class TileLinear(nn.Linear):
    """Another linear of the same weight and bias: a row has the same bits in any company."""

    shared_input: SharedInput["TileLinear"] | None = None

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)  # that of a linear would make a weight
        become(self, linear)

    def forward(self, input: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`, not differentiable."""
        if input.numel() > _MAX_FEATURES or not _is_readable(input):
            return super().forward(input)
        return product_of(self, input)

    def _can_read(self, width: int) -> bool:
        parts = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return width == self.in_features and all(_is_readable(part) for part in parts)

    def multiply(self, linears: Sequence["TileLinear"], features: Tensor) -> list[Tensor]:
        """The products of `features` with each of `linears`.

        Raises:
            RuntimeError: somebody has moved or converted a weight, and the features not.
        """
        kernel = _kernel()
        assert kernel is not None, "made only where it is there"
        width = features.shape[-1]
        if not all(linear._can_read(width) for linear in linears):
            kinds = [(linear.weight.dtype, linear.in_features) for linear in linears]
            raise RuntimeError(
                f"cannot multiply bfloat16 features of {width} on cpu by weights of {kinds}"
            )
        features = features.contiguous()
        shape, num_rows = features.shape[:-1], features.numel() // self.in_features
        products = [features.new_empty(*shape, linear.out_features) for linear in linears]
        room = features.new_empty(-(-num_rows // _TILE) * _TILE * self.in_features)
        pairs = zip(linears, products, strict=True)
        kernel(
            features.data_ptr(),
            pack_parts((linear.weight, linear.bias, product) for linear, product in pairs),
            len(products),
            num_rows,
            self.in_features,
            room.data_ptr(),
            torch.get_num_threads(),
        )
        return products
