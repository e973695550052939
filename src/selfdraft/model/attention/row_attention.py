"""Attention of new rows on the cache, in as few calls as keep every row's bits (contract L2).

`row_paths` says which rows share a call. Within a call, the query heads that share a key/value head
become query rows, and so do the new rows: the keys are read once for all of them.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from selfdraft.model.attention.row_paths import RowCall, RowPaths
from selfdraft.model.cache.kv_cache import KEY_BLOCK
from selfdraft.shapes import Keys, Queries, Values


def attend_in_calls(
    query: Queries,
    key: Keys,
    value: Values,
    starts: tuple[int, ...],
    row_paths: RowPaths,
    scaling: float | None,
) -> Tensor:
    """The attention of every row, of shape `[1, new_rows, heads, dim]`."""
    prefix_length, num_kv_heads = key.shape[2] - query.shape[2], key.shape[1]
    group = query.shape[1] // num_kv_heads
    is_shared = rows_share_calls(
        num_kv_heads, group, query.shape[3], value.shape[3], query.dtype, torch.get_num_threads()
    )
    plan = row_paths.plan(prefix_length, starts, group, query, is_shared=is_shared)
    slots = None if plan.is_in_place else PathSlots(key, value, prefix_length)
    attended = []
    for call in plan.calls:
        if slots is not None:
            slots.arrange(call.slots)
        attended.append(_attend(query, key, value, call, scaling))
    if slots is not None:
        slots.restore()
    if plan.order is None:
        return attended[0]
    return torch.cat(attended, dim=1).index_select(1, plan.order)


def _attend(
    query: Queries, key: Keys, value: Values, call: RowCall, scaling: float | None
) -> Tensor:
    """The attention of the rows of `call`: `[1, rows, heads, dim]`."""
    if call.index is not None:
        query = query.index_select(2, call.index)
    _, num_heads, num_queries, key_dim = query.shape
    num_kv_heads = key.shape[1]
    folded = query.reshape(1, num_kv_heads, -1, key_dim)
    keys, values = (_stretch(states, call.start, call.end) for states in (key, value))
    attended = scaled_dot_product_attention(folded, keys, values, call.mask, scale=scaling)
    by_head = attended.view(1, num_kv_heads, -1, num_queries, attended.shape[3])
    by_row = by_head.permute(0, 3, 1, 2, 4)[:, : len(call.rows)]
    # Some models view the result as rows of all heads, which only contiguous memory allows.
    return by_row.reshape(1, len(call.rows), num_heads, -1).contiguous()


def _stretch(states: Tensor, start: int, end: int) -> Tensor:
    """Rows `start` to `end` of keys or values; those behind the last one are finite, no more.

    A view, where the states are a view of a cache's buffer with room behind them.
    """
    _, num_heads, num_rows, dim = states.shape
    if end <= num_rows:
        return states[:, :, start:end]
    batch_stride, head_stride, row_stride, dim_stride = states.stride()
    needed = states.storage_offset() + (num_heads - 1) * head_stride + end * row_stride
    has_room = head_stride >= end * row_stride > 0
    if has_room and needed * states.element_size() <= states.untyped_storage().nbytes():
        return states.as_strided(
            (1, num_heads, end - start, dim),
            (batch_stride, head_stride, row_stride, dim_stride),
            states.storage_offset() + start * row_stride,
        )
    return pad(states[:, :, start:], (0, 0, 0, end - num_rows))


@lru_cache
def rows_share_calls(
    num_kv_heads: int, group: int, key_dim: int, value_dim: int, dtype: torch.dtype, threads: int
) -> bool:
    """Whether a row's bits stay the same in a call with others, on this machine.

    Tried out, not looked up: kernels differ between processors, and choose by shape. Where the
    numbers have no bits to keep (contract L1) there is nothing to try.
    """
    if dtype != torch.bfloat16:
        return True
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, heads: int = num_kv_heads) -> Tensor:
        return torch.randn(1, heads, *shape, generator=generator).to(dtype)

    num_rows = 24
    paths = tuple(tuple(range(row + 1)) for row in range(num_rows))
    for num_blocks in (1, 4, 7, 8, 16):
        num_keys = num_blocks * KEY_BLOCK
        key, value = random(num_keys, key_dim), random(num_keys, value_dim)
        # Large queries: weights that are far from uniform show a difference in more of their bits.
        query = 3 * random(num_rows, key_dim, heads=num_kv_heads * group)
        alone: Tensor | None = None
        for count in (2, 3, 5, 9, 17, num_rows):
            rows = query[:, :, :count]
            starts, prefix_length = (0,) * count, num_keys - num_rows
            plan = RowPaths(paths[:count], rowwise=True).plan(
                prefix_length, starts, group, rows, is_shared=True
            )
            together = _attend(rows, key, value, plan.calls[0], None)[:, :2]
            alone = together if alone is None else alone
            if not torch.equal(together, alone):
                return False
    return True


class PathSlots:
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
            buffer.select(2, slot).copy_(original.select(2, offset))
        self._content[slot] = offset
