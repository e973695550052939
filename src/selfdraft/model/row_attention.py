"""Attention of new rows on the cache, in as few calls as keep every row's bits (contract L2).

`row_paths` says which rows share a call. Within a call, the query heads that share a key/value head
become query rows, and so do the new rows: the keys are read once for all of them.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from selfdraft.model.kv_cache import KEY_BLOCK
from selfdraft.model.row_paths import RowCall, RowPaths
from selfdraft.shapes import Keys, Queries, Values

# torch's kernel splits many query rows into tiles of 32, 64 or 256 (from 192 and 768 rows on), and
# multiplies a tile of 1 or of 2 to 3 rows in another order than one of 4 and more.
_TILES = ((768, 256), (192, 64), (0, 32))
_MIN_TILE = 4


def attend_in_calls(
    query: Queries,
    key: Keys,
    value: Values,
    starts: tuple[int, ...],
    row_paths: RowPaths,
    scaling: float | None,
) -> Tensor:
    """The attention of every row, of shape `[1, new_rows, heads, dim]`."""
    num_heads, num_rows = query.shape[1:3]
    prefix_length, num_kv_heads = key.shape[2] - num_rows, key.shape[1]
    group = num_heads // num_kv_heads
    is_shared = rows_share_calls(
        num_kv_heads, group, query.shape[3], value.shape[3], query.dtype, torch.get_num_threads()
    )
    calls = row_paths.calls(prefix_length, starts, num_rows, is_shared=is_shared)
    if len(calls) == 1 and len(calls[0].rows) == num_rows and _in_place(calls[0]):
        return _attend(query, key, value, calls[0], row_paths, scaling, is_shared)
    attended = query.new_zeros(1, num_rows, num_heads, value.shape[3])
    slots = PathSlots(key, value, prefix_length)
    for call in calls:
        slots.arrange(call.slots)
        rows = list(call.rows)
        attended[:, rows] = _attend(
            query[:, :, rows], key, value, call, row_paths, scaling, is_shared
        )
    slots.restore()
    return attended


def _in_place(call: RowCall) -> bool:
    return call.slots == tuple(range(len(call.slots)))


def _attend(
    query: Queries,
    key: Keys,
    value: Values,
    call: RowCall,
    row_paths: RowPaths,
    scaling: float | None,
    is_shared: bool,
) -> Tensor:
    """The attention of `query`, the rows of `call`: `[1, rows, heads, dim]`."""
    num_heads, num_rows = query.shape[1:3]
    num_kv_heads = key.shape[1]
    folded = query.reshape(1, num_kv_heads, -1, query.shape[3])
    mask = row_paths.call_mask(call, num_heads // num_kv_heads, query)
    num_queries = folded.shape[2]
    missing = _missing(num_queries) if is_shared else 0
    if missing:
        folded, mask = pad(folded, (0, 0, 0, missing)), pad(mask, (0, 0, 0, missing))
    keys, values = (_stretch(states, call.start, call.end) for states in (key, value))
    attended = scaled_dot_product_attention(folded, keys, values, mask, scale=scaling)
    by_head = attended[:, :, :num_queries].view(1, num_kv_heads, -1, num_rows, attended.shape[3])
    return by_head.permute(0, 3, 1, 2, 4).reshape(1, num_rows, num_heads, -1)


def _missing(num_queries: int) -> int:
    """Query rows to add, so that no tile is so small that it is computed in another way."""
    tile = next(tile for least, tile in _TILES if num_queries >= least)
    last = num_queries % tile or tile
    return max(0, _MIN_TILE - last)


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

    def random(*shape: int) -> Tensor:
        return torch.randn(1, num_kv_heads, *shape, generator=generator).to(dtype)

    num_rows = 24
    for num_blocks in (1, 4, 7, 8, 16):
        num_keys = num_blocks * KEY_BLOCK
        # Large queries: weights that are far from uniform show a difference in more of their bits.
        query = 3 * random(group * num_rows, key_dim)
        key, value = random(num_keys, key_dim), random(num_keys, value_dim)
        mask = query.new_zeros(1, 1, query.shape[2], num_keys)
        for row in range(query.shape[2]):
            mask[:, :, row, num_keys - row % KEY_BLOCK :] = -torch.inf
        alone: Tensor | None = None
        for count in (2, 3, 5, 9, 17, num_rows):
            rows = slice(0, group * count)
            missing = (0, 0, 0, _missing(group * count))
            together = scaled_dot_product_attention(
                pad(query[:, :, rows], missing), key, value, pad(mask[:, :, rows], missing)
            )[:, :, : 2 * group]
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
            buffer[:, :, slot] = original[:, :, offset]
        self._content[slot] = offset
