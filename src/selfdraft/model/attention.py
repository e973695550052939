"""Attention over the cache, one new row at a time, so that a row's bits do not depend on the rest.

Contract L2 (DESIGN section 2) wants a token's logits to be the same bits whether it is decoded
alone or verified as one node of a tree. Kernels break this when several queries share a call or
when a mask is given. So every row gets a call of its own, on contiguous keys: the verified prefix,
then the row's own path through the tree, whose rows are first copied into the slots behind the
prefix. The query heads that share a key/value head become the query rows of that call: they see
the same keys, so no mask is needed, and the keys are read once per group instead of once per head.

On devices with one launch per call (GPUs) this would be slow and would not buy exact bits, so
there the rows share one call with a mask, and the contract is L4.

Which keys a layer sees at all (sliding windows, chunks) is the model's own business: it describes
its mask to transformers as a function, which `Visibility` evaluates where it is needed. What
`scaled_dot_product_attention` cannot compute (soft-capping, sinks) is left to the model's own
eager attention, row by row as well.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from selfdraft.errors import UnsupportedModelError
from selfdraft.shapes import Keys, Queries, Values

IMPLEMENTATION = "selfdraft"
"""The name under which transformers finds `path_attention` and `Visibility`."""

# What a model passes when its attention is more than softmax(q k) v.
_BEYOND_SDPA = ("softcap", "s_aux", "position_bias")

RowAttention = Callable[[Queries, Keys, Values], Tensor]
"""One row's attention on contiguous keys; the result is `[1, 1, heads, dim]`."""


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


@dataclass(frozen=True, slots=True)
class RowPaths:
    """What each new row may see behind the prefix: the new rows from the root to itself.

    A row is named by its offset from the cache's length. Rows beyond the last path are padding;
    their attention is zero.
    """

    paths: tuple[tuple[int, ...], ...]
    rowwise: bool
    _masks: dict[tuple[int, tuple[int, ...]], Tensor] = field(default_factory=dict, compare=False)

    def mask(self, prefix_length: int, starts: tuple[int, ...], device: torch.device) -> Tensor:
        """Boolean mask `[1, 1, rows, prefix_length + rows]`: True where a row may look.

        Layers that see the same keys share it.
        """
        key = (prefix_length, starts)
        if key not in self._masks:
            self._masks[key] = self._new_mask(prefix_length, starts).to(device)
        return self._masks[key]

    def _new_mask(self, prefix_length: int, starts: tuple[int, ...]) -> Tensor:
        num_rows = len(self.paths)
        visible = torch.zeros(num_rows, prefix_length + num_rows, dtype=torch.bool)
        for row, path in enumerate(self.paths):
            start = starts[len(path) - 1]
            visible[row, start:prefix_length] = True
            visible[
                row, [prefix_length + p for d, p in enumerate(path) if prefix_length + d >= start]
            ] = True
        return visible[None, None]


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

    def attend(row: Queries, keys: Keys, values: Values) -> Tensor:
        if special:
            attended, _ = _eager(module)(
                module, row, keys, values, None, scaling=scaling, **special
            )
            return attended
        grouped = row.reshape(1, keys.shape[1], -1, row.shape[-1])
        attended = scaled_dot_product_attention(grouped, keys, values, scale=scaling)
        return attended.reshape(1, 1, row.shape[1], -1)

    return _attend_by_row(query, key, value, prefix_length, starts, row_paths.paths, attend), None


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
    query: Queries,
    key: Keys,
    value: Values,
    prefix_length: int,
    starts: tuple[int, ...],
    paths: tuple[tuple[int, ...], ...],
    attend: RowAttention,
) -> Tensor:
    _, num_heads, num_rows, head_dim = query.shape
    by_row = query.transpose(1, 2).contiguous()
    attended = query.new_zeros(1, num_rows, num_heads, value.shape[3])
    slots = _PathSlots(key, value, prefix_length)
    for row, path in enumerate(paths):
        slots.arrange(path)
        start, end = starts[len(path) - 1], prefix_length + len(path)
        one_row = by_row[:, row].view(1, num_heads, 1, head_dim)
        attended[:, row : row + 1] = attend(one_row, key[:, :, start:end], value[:, :, start:end])
    slots.restore()
    return attended


class _PathSlots:
    """The cache rows behind the prefix, which take turns holding the path of one row."""

    def __init__(self, key: Keys, value: Values, prefix_length: int) -> None:
        self._buffers = (key[:, :, prefix_length:], value[:, :, prefix_length:])
        self._originals: tuple[Tensor, ...] | None = None
        self._content = list(range(key.shape[2] - prefix_length))

    def arrange(self, path: tuple[int, ...]) -> None:
        """Make slots 0, 1, ... hold the new rows that `path` names."""
        for slot, offset in enumerate(path):
            if self._content[slot] != offset:
                self._put(slot, offset)

    def restore(self) -> None:
        """Put every new row back into its own slot."""
        for slot, offset in enumerate(self._content):
            if slot != offset:
                self._put(slot, slot)

    def _put(self, slot: int, offset: int) -> None:
        if self._originals is None:
            self._originals = tuple(buffer.clone() for buffer in self._buffers)
        for buffer, original in zip(self._buffers, self._originals, strict=True):
            buffer[:, :, slot] = original[:, :, offset]
        self._content[slot] = offset


AttentionInterface.register(IMPLEMENTATION, path_attention)
AttentionMaskInterface.register(IMPLEMENTATION, Visibility)
