"""The weight of a linear as a plain matrix, whatever form a module keeps it in."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from selfdraft.model.kernels.packing import PackedLinear, unpacked_weight

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def dense_weight(module: nn.Module) -> Tensor | None:
    """The matrix `[out_features, in_features]` of a plain linear; None if `module` is not one.

    Without a copy where the module has such a matrix; a packed one is unpacked. Not plain is a
    weight that is quantised or elsewhere (offloaded), and a forward of the module's own.
    """
    if isinstance(module, PackedLinear):
        return unpacked_weight(module)
    is_linear = type(module).forward is nn.Linear.forward
    is_transposed = type(module) is Conv1D
    if not (is_linear or is_transposed) or "forward" in vars(module):
        return None
    weight: Any = module.weight
    is_plain = type(weight) in (Tensor, nn.Parameter) and weight.dtype in _FLOATS
    if not is_plain or weight.is_meta:
        return None
    matrix: Tensor = weight.detach()
    return matrix if is_linear else matrix.T


def dense_shape(module: nn.Module) -> tuple[int, int] | None:
    """The shape of `dense_weight(module)`, which is not unpacked for it."""
    if isinstance(module, PackedLinear):
        return module.out_features, module.in_features
    weight = dense_weight(module)
    return None if weight is None else (weight.shape[0], weight.shape[1])
