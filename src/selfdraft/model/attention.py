"""Attention over the cache, one new row at a time, so that a row's bits do not depend on the rest.

Contract L2 (DESIGN section 2) wants a token's logits to be the same bits whether it is decoded
alone or verified as one node of a tree. Kernels break this when several queries share a call or
when a mask is given. So every row gets a call of its own, on contiguous keys: the verified prefix,
then the row's own path through the tree, whose rows are first copied into the slots behind the
prefix. The query heads that share a key/value head become the query rows of that call: they see
the same keys, so no mask is needed, and the keys are read once per group instead of once per head.

On devices with one launch per call (GPUs) this would be slow and would not buy exact bits, so
there the rows share one call with a mask, and the contract is L4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from selfdraft.errors import UnsupportedModelError
from selfdraft.shapes import Keys, Queries, Values

IMPLEMENTATION = "selfdraft"
"""The name under which transformers finds `path_attention`."""

# Arguments that a model passes to change what attention computes; each would be ignored silently.
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")


@dataclass(frozen=True, slots=True)
class RowPaths:
    """What each new row may see behind the prefix: the new rows from the root to itself.

    A row is named by its offset from the cache's length. Rows beyond the last path are padding;
    their attention is zero.
    """

    paths: tuple[tuple[int, ...], ...]
    rowwise: bool

    def mask(self, prefix_length: int, device: torch.device) -> Tensor:
        """Boolean mask `[1, 1, rows, prefix_length + rows]`: True where a row may look."""
        num_rows = len(self.paths)
        visible = torch.zeros(num_rows, prefix_length + num_rows, dtype=torch.bool)
        visible[:, :prefix_length] = True
        for row, path in enumerate(self.paths):
            visible[row, [prefix_length + offset for offset in path]] = True
        return visible[None, None].to(device)


def path_attention(
    module: torch.nn.Module,
    query: Queries,
    key: Keys,
    value: Values,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    row_paths: RowPaths | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; the result has shape `[1, new_rows, heads, dim]`.

    Without `row_paths` this is the prefill of an empty cache: plain causal attention.

    Raises:
        UnsupportedModelError: the model asks for a kind of attention that this does not compute.
    """
    unsupported = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if unsupported:
        raise UnsupportedModelError(
            f"{type(module).__name__} uses {', '.join(unsupported)}, which selfdraft does not "
            "support yet: use model.generate() of transformers"
        )
    if row_paths is None:
        assert query.shape[2] == key.shape[2], "prefill starts from an empty cache"
        return sdpa_attention_forward(module, query, key, value, None, scaling=scaling)
    prefix_length = key.shape[2] - query.shape[2]
    if not row_paths.rowwise:
        mask = row_paths.mask(prefix_length, query.device)
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)
    return _attend_by_row(query, key, value, prefix_length, row_paths.paths, scaling), None


def _attend_by_row(
    query: Queries,
    key: Keys,
    value: Values,
    prefix_length: int,
    paths: tuple[tuple[int, ...], ...],
    scaling: float | None,
) -> Tensor:
    _, num_heads, num_rows, _ = query.shape
    num_groups = key.shape[1]
    by_row = query.transpose(1, 2).reshape(num_rows, num_groups, num_heads // num_groups, -1)
    attended = query.new_zeros(1, num_rows, num_heads, value.shape[3])
    slots = _PathSlots(key, value, prefix_length)
    for row, path in enumerate(paths):
        slots.arrange(path)
        end = prefix_length + len(path)
        one_row = scaled_dot_product_attention(
            by_row[None, row], key[:, :, :end], value[:, :, :end], scale=scaling
        )
        attended[0, row] = one_row.reshape(num_heads, -1)
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
