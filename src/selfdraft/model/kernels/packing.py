"""Linears whose weights are laid out once for oneDNN, instead of anew in every call.

On a CPU in bfloat16 a pass waits for memory, and oneDNN reads weights in its own layout faster
than rows of a plain matrix. The product has the same bits, which is checked for every linear. The
packed weight takes the place of the plain one, so that no memory is spent; a weight that something
else reads as well, like an embedding that is also the head, stays plain.

A packed model is for inference: it cannot be trained, pickled whole, or moved to another device or
dtype. `state_dict`, and with it `save_pretrained`, gives plain weights, and loads them;
`unpack_linears` undoes everything.
"""

import copy
from collections import Counter
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

# How many rows oneDNN should think of when it chooses the layout; any number may come.
_EXPECTED_ROWS = 8

# Rows that a packed linear is compared on: one, the padded pass of one, and a check.
_COMPARED_ROWS = (1, 2, 9)


class PackedLinear(nn.Linear):
    """A linear whose `weight` is in oneDNN's layout; `unpacked_weight` is the plain one."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)  # that of a linear would make a weight
        become(self, linear)
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _EXPECTED_ROWS)
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        """Product and bias, with the bits of `nn.Linear.forward`."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self.weight, self.bias, "none", [], ""
        )
        return product

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLinear":
        twin = copy.copy(self)
        twin._parameters = {
            "weight": nn.Parameter(self.weight.detach().clone(), requires_grad=False),
            "bias": copy.deepcopy(self._parameters.get("bias"), memo),
        }
        memo[id(self)] = twin
        return twin

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight.detach().to_dense()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        plain = _plain(self)
        plain._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._parameters = dict(PackedLinear(plain)._parameters)


def unpacked_weight(linear: nn.Linear) -> Tensor:
    """The weight as a plain matrix `[out_features, in_features]`: a copy, if it is packed."""
    weight = linear.weight.detach()
    return weight.to_dense() if weight.is_mkldnn else weight


def pack_linears(model: nn.Module) -> None:
    """Replace every linear of `model` that can be packed, one by one: one weight exists twice."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    uses = Counter(
        id(p) for part in model.modules() for p in part._parameters.values() if p is not None
    )
    for part in list(model.modules()):
        for name, child in part._modules.items():
            if child is not None and is_packable(child) and uses[id(child.weight)] == 1:
                part._modules[name] = _packed_if_equal(child)


def unpack_linears(model: nn.Module) -> None:
    """Put plain linears back."""
    for part in list(model.modules()):
        for name, child in part._modules.items():
            if isinstance(child, PackedLinear):
                part._modules[name] = _plain(child)


def is_packable(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is a linear and nothing but a linear, with its plain bfloat16 weight on a CPU."""
    if type(module) is not nn.Linear or type(module.weight) is not nn.Parameter:
        return False
    is_replaced = "forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks
    is_here = module.weight.device.type == "cpu" and module.weight.dtype == torch.bfloat16
    return is_here and not is_replaced


@torch.inference_mode(mode=False)
@torch.no_grad()
def _packed_if_equal(linear: nn.Linear) -> nn.Linear:
    packed = PackedLinear(linear)
    generator = torch.Generator().manual_seed(0)
    for num_rows in _COMPARED_ROWS:
        rows = torch.randn(num_rows, linear.in_features, generator=generator).bfloat16()
        if not torch.equal(packed.forward(rows), linear.forward(rows)):
            return linear
    return packed


def become(linear: nn.Linear, other: nn.Linear) -> None:
    """Take everything over from `other`, weights included."""
    linear.__dict__.update(other.__dict__)
    linear._parameters = dict(other._parameters)


def _plain(packed: PackedLinear) -> nn.Linear:
    linear = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(linear)
    become(linear, packed)
    linear.weight = nn.Parameter(unpacked_weight(packed), requires_grad=False)
    return linear
