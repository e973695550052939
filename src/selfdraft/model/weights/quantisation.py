"""Weights in few bits, wherever the library that quantised a model keeps them.

Some replace a parameter by a tensor of a class of their own, some by an integer one, some by
buffers, and torch's own packed linear has neither: its `weight` is a method that unpacks it.
"""

from collections.abc import Iterator
from types import MethodType

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# Weights as they are computed with, masks and positions. Of other types are only packed weights.
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_UNPACKED = frozenset((*_FLOATS, torch.complex64, torch.complex128, torch.int64, torch.bool))


def weights_of(module: nn.Module) -> Iterator[Tensor]:
    """Every tensor of weights in `module`; those that torch packs are unpacked one by one."""
    yield from module.parameters()
    yield from (buffer for buffer in module.buffers() if _is_packed(buffer))
    for part in module.modules():
        unpack = getattr(part, "weight", None)
        if isinstance(unpack, MethodType):
            yield unpack()


def is_quantised(module: nn.Module) -> bool:
    """Whether some of the weights have fewer bits than the numbers that are computed with."""
    return any(_is_packed(weight) for weight in weights_of(module))


def num_bytes(weight: Tensor) -> int:
    """Bytes of a tensor of weights, also of one that is made of several."""
    if not is_traceable_wrapper_subclass(weight):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()
    return sum(num_bytes(getattr(weight, name)) for name in names)


def _is_packed(weight: Tensor) -> bool:
    is_packed = weight.dim() > 1 and weight.dtype not in _UNPACKED
    return is_packed or is_traceable_wrapper_subclass(weight)
