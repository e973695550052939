"""Shared-input linears: those that read the same features, computed in one call of a kernel.

Queries, keys and values are products of one tensor, and so are the gate and the up of an MLP. Each
call costs time beside that for its weights, because the code around it has left the processor's
caches since the layer before. Which linears belong together is not looked up by name: it is heard
when the model runs.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfdraft.model.placement import running_device
from selfdraft.model.sharing import FAILURES, share

_PART = struct.Struct("@PPPq")  # of `csrc/linear_parts.h`


class KernelLinear(Protocol):
    """A linear of a kernel that can compute several at once."""

    out_features: int
    shared_input: "SharedInput[Any] | None"

    def multiply(self, linears: Any, features: Tensor) -> list[Tensor]:
        """The products of `features` with each of `linears`, all of the kind of this one."""
        ...


L = TypeVar("L", bound=KernelLinear)


class SharedInput(Generic[L]):
    """Linears of one kernel that read the same features, in the order in which they are asked.

    The first computes for all. The others take what it made of these very features; if they are
    asked for others, as when two threads run a model at once, they compute by themselves.
    """

    def __init__(self, members: Sequence[L]) -> None:
        self._members = tuple(members)
        self._made: tuple[Tensor, list[Tensor]] | None = None

    def product(self, member: L, features: Tensor) -> Tensor:
        """What `member` makes of `features`, `[..., in_features]`."""
        if member is self._members[0]:
            products = member.multiply(self._members, features)
            self._made = features, products
            return products[0]
        made = self._made
        if made is None or made[0] is not features:
            return member.multiply((member,), features)[0]
        if member is self._members[-1]:
            self._made = None  # the products of a prompt are large
        return made[1][self._members.index(member)]


def product_of(linear: KernelLinear, features: Tensor) -> Tensor:
    """What `linear` makes of `features`, in one call with those that share its input, if any do."""
    if linear.shared_input is None:
        return linear.multiply((linear,), features)[0]
    return linear.shared_input.product(linear, features)


def pack_parts(parts: Iterable[tuple[Tensor, Tensor | None, Tensor]]) -> bytes:
    """Weights, bias and room for the products of each linear, as kernels take them."""
    return b"".join(
        _PART.pack(
            weights.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            products.data_ptr(),
            products.shape[-1],
        )
        for weights, bias, products in parts
    )


@torch.no_grad()
def join_shared_inputs(model: PreTrainedModel, linears: Mapping[nn.Module, KernelLinear]) -> None:
    """Join those of `linears` that are children of one module and read one tensor.

    The children of one module are skipped together. `model` reads a token, and computes nothing
    for it; where it does not run so, every linear stays alone.
    """
    if not linears:
        return
    asked: list[_Question] = []
    ears = {module: _Ear(module, linear.out_features, asked) for module, linear in linears.items()}
    token = torch.zeros(1, 1, dtype=torch.long, device=running_device(model))
    view: Any = share(model, ears)
    try:
        view(input_ids=token, use_cache=False)
    except FAILURES:
        return
    parents = {child: part for part in model.modules() for child in part.children()}
    families: dict[object, dict[nn.Module, KernelLinear]] = defaultdict(dict)
    for module, features, version in asked:
        families[parents[module], id(features), version][module] = linears[module]
    for family in families.values():
        if len(family) > 1:
            shared_input = SharedInput(tuple(family.values()))
            for linear in family.values():
                linear.shared_input = shared_input


class _Question(NamedTuple):
    """What a linear was asked; the version is another one after a change in place."""

    linear: nn.Module
    features: Tensor
    version: int


class _Ear(nn.Module):
    """Stands for a linear, notes what it is asked, and answers with zeros."""

    def __init__(self, linear: nn.Module, out_features: int, asked: list[_Question]) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, getattr(linear, "bias", None)  # for who looks
        self._linear = (linear,)  # not a part of this one
        self._out_features, self._asked = out_features, asked

    def forward(self, features: Tensor) -> Tensor:
        self._asked.append(_Question(*self._linear, features, features._version))
        return features.new_zeros(*features.shape[:-1], self._out_features)
