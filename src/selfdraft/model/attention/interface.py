"""Attention as transformers asks for it, so that a row's bits do not depend on the rows beside it.

Contract L2 (docs/contract.md) wants a token's logits to be the same bits whether it is decoded
alone or verified as one node of a tree. On a CPU `attention_kernel` computes new rows in that way,
or `row_attention` where there is no such kernel.

On devices with one launch per call (GPUs) that would be slow and would not buy exact bits, so
there the rows share one call with a mask, and the contract is L4.

Which keys a layer sees at all (sliding windows, chunks) is the model's own business: it describes
its mask to transformers as a function, which `Visibility` evaluates where it is needed. What
`scaled_dot_product_attention` cannot compute (soft-capping, sinks) is left to the model's own
eager attention, row by row.
"""

import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.attention import attention_kernel
from selfdraft.model.attention.row_attention import PathSlots, attend_in_calls
from selfdraft.model.attention.row_paths import RowPaths
from selfdraft.shapes import Keys, Queries, Values

IMPLEMENTATION = "selfdraft"
"""The name under which transformers finds `path_attention` and `Visibility`."""

# What a model passes when its attention is more than softmax(q k) v.
_BEYOND_SDPA = ("softcap", "s_aux", "position_bias")


class Visibility:
    """A model's description of which earlier positions a position may see.

    transformers asks for it where it would ask for a mask, and hands it to `path_attention`.
    """

    def __init__(self, **description: Any) -> None:
        self._description = description

    def sdpa_mask(self) -> Tensor | None:
        """The boolean mask of a prefill; None if plain causal attention will do."""
        return sdpa_mask(**self._description)

    def eager_mask(self) -> Tensor | None:
        """The additive mask of a prefill."""
        return eager_mask(**self._description)

    @cached_property
    def first_keys(self) -> tuple[int, ...]:
        """For each position from the first new row's on: the first key that it may see.

        Raises:
            UnsupportedModelError: what it may see is not a stretch that ends with itself.
        """
        visible = sdpa_mask(**self._description | {"allow_is_causal_skip": False})
        assert visible is not None
        rows = visible[0, 0]
        num_visible = rows.sum(dim=-1)
        ends = self._description["q_offset"] + torch.arange(1, len(rows) + 1, device=rows.device)
        starts = ends - num_visible
        keys = torch.arange(rows.shape[-1], device=rows.device)
        stretch = (keys >= starts[:, None]) & (keys < ends[:, None])
        if not torch.equal(rows, stretch):
            raise UnsupportedModelError(
                "this model's attention mask is not a window that ends at the token itself"
            )
        return tuple(starts.tolist())


def path_attention(
    module: torch.nn.Module,
    query: Queries,
    key: Keys,
    value: Values,
    attention_mask: Visibility | None,
    scaling: float | None = None,
    row_paths: RowPaths | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; the result has shape `[1, new_rows, heads, dim]`.

    Without `row_paths` this is the prefill of an empty cache.
    """
    special = {name: kwargs[name] for name in _BEYOND_SDPA if kwargs.get(name) is not None}
    if row_paths is None:
        return _prefill(module, query, key, value, attention_mask, scaling, special), None
    prefix_length = key.shape[2] - query.shape[2]
    starts = (0,) * query.shape[2] if attention_mask is None else attention_mask.first_keys
    if not row_paths.rowwise:
        mask = row_paths.mask(prefix_length, starts, query.device)
        if special:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(
                ~mask, torch.finfo(query.dtype).min
            )
            return _eager(module)(module, query, key, value, mask, scaling=scaling, **special)[
                0
            ], None
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)

    if special:
        return _attend_by_row(module, query, key, value, starts, row_paths, scaling, special), None
    can_use_ours = attention_kernel.can_attend(query, key, value)
    attend = attention_kernel.attend if can_use_ours else attend_in_calls
    return attend(query, key, value, starts, row_paths, scaling), None


def _prefill(
    module: torch.nn.Module,
    query: Queries,
    key: Keys,
    value: Values,
    visibility: Visibility | None,
    scaling: float | None,
    special: dict[str, Any],
) -> Tensor:
    assert query.shape[2] == key.shape[2], "prefill starts from an empty cache"
    if special:
        mask = None if visibility is None else visibility.eager_mask()
        attended: Tensor = _eager(module)(
            module, query, key, value, mask, scaling=scaling, **special
        )[0]
        return attended
    mask = None if visibility is None else visibility.sdpa_mask()
    return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)[0]


def _eager(module: torch.nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """The eager attention that stands beside the module in its model's code."""
    function = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if function is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} needs more than plain attention, and its code has no "
            "eager_attention_forward to compute it with"
        )
    return function  # type: ignore[no-any-return]


def _attend_by_row(
    module: torch.nn.Module,
    query: Queries,
    key: Keys,
    value: Values,
    starts: tuple[int, ...],
    row_paths: RowPaths,
    scaling: float | None,
    special: dict[str, Any],
) -> Tensor:
    """The model's own attention on the keys that a row sees, and no others; padding has none."""
    _, num_heads, num_rows, _ = query.shape
    prefix_length = key.shape[2] - num_rows
    attended = query.new_zeros(1, num_rows, num_heads, value.shape[3])
    slots, attend = PathSlots(key, value, prefix_length), _eager(module)
    for row, path in enumerate(row_paths.paths):
        slots.arrange(path)
        start, end = starts[len(path) - 1], prefix_length + len(path)
        one_row, keys, values = (
            query[:, :, row : row + 1],
            key[:, :, start:end],
            value[:, :, start:end],
        )
        attended[:, row : row + 1] = attend(
            module, one_row, keys, values, None, scaling=scaling, **special
        )[0]
    slots.restore()
    return attended


AttentionInterface.register(IMPLEMENTATION, path_attention)
AttentionMaskInterface.register(IMPLEMENTATION, Visibility)
