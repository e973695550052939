"""The KV cache: preallocated, growing buffers with one logical length (docs/contract.md, D2).

Rows `[0, length)` hold the sequence so far. A forward pass writes its new rows behind them and
does not move the length; only `advance`, `keep` and `rewind` do. So drafting writes after the
verified rows, verification overwrites the same rows, and forgetting is setting a number. A layer
whose attention a draft skips writes nothing, and nothing has to be repaired afterwards.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from selfdraft.shapes import Keys, NewKeys, NewValues, Values

KEY_BLOCK = 64
"""Buffers are whole blocks of so many rows, because attention reads them so (`row_paths`)."""


@dataclass(slots=True)
class _Extent:
    """What all layers of one cache share: rows in use, and rows to allocate."""

    length: int
    capacity: int


class KVCache(Cache):
    """Keys and values of one sequence, for every layer of a model."""

    def __init__(self, num_layers: int, capacity: int) -> None:
        self._extent = _Extent(length=0, capacity=max(capacity, 1))
        self._kv_layers = [KVLayer(self._extent) for _ in range(num_layers)]
        super().__init__(layers=list(self._kv_layers))

    @property
    def length(self) -> int:
        """Rows that belong to the sequence; the next forward pass writes from here on."""
        return self._extent.length

    def advance(self, num_rows: int) -> None:
        """Count the `num_rows` rows that were just written as part of the sequence."""
        self._extent.length += num_rows

    def rewind(self, length: int) -> None:
        """Forget every row from `length` on."""
        assert 0 <= length <= self.length, f"rewind from {self.length} to {length}"
        self._extent.length = length

    @contextmanager
    def rewound(self, length: int) -> Iterator[None]:
        """The first `length` rows alone, for the block; it may write whatever behind them.

        Afterwards the cache is as before, whatever happened: the rows that were there come back.
        """
        assert 0 <= length <= self.length, f"rewound from {self.length} to {length}"
        before = self.length
        saved = [layer.copy_rows(length, before) for layer in self._kv_layers]
        self._extent.length = length
        try:
            yield
        finally:
            self._extent.length = before
            for layer, rows in zip(self._kv_layers, saved, strict=True):
                layer.put_rows(length, rows)

    def keep(self, offsets: Sequence[int]) -> None:
        """Append the rows written at `length + offset`, in the order of `offsets`.

        `offsets` rise, so a row only ever moves towards the front; on a chain nothing moves.
        """
        first_moved = next((i for i, offset in enumerate(offsets) if i != offset), len(offsets))
        if first_moved < len(offsets):
            sources = [self.length + offset for offset in offsets[first_moved:]]
            for layer in self._kv_layers:
                layer.move_rows(sources, self.length + first_moved)
        self.advance(len(offsets))

    def copy_into(self, cache: Cache) -> None:
        """Write the rows of the sequence into `cache`, an empty one of transformers."""
        for index, layer in enumerate(self._kv_layers):
            if layer.is_initialized:  # a layer that reads another layer's rows has none
                keys, values = layer.copy_rows(0, self.length)
                cache.update(keys, values, index)

    def num_bytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(buffer.nbytes for layer in self._kv_layers for buffer in layer.buffers)


class KVLayer(CacheLayerMixin):
    """One layer's buffers: keys and values of shape `[1, kv_heads, capacity, dim]`."""

    is_sliding = False

    def __init__(self, extent: _Extent) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._extent = extent
        self.buffers: tuple[Tensor, ...] = ()

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate on first use, when heads, dimensions, dtype and device are known."""
        states = (key_states, value_states)
        self.buffers = tuple(_buffer_like(s, self._extent.capacity) for s in states)
        self.is_initialized = True

    def update(
        self, key_states: NewKeys, value_states: NewValues, *args: object, **kwargs: object
    ) -> tuple[Keys, Values]:
        """Write new rows behind the sequence; views of all rows up to and including them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self._extent.length, self._extent.length + key_states.shape[-2]
        if end > self.buffers[0].shape[-2]:
            self._grow(end)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
            # Attention reads whole blocks and multiplies what lies behind the rows by zero, which
            # a NaN survives: new memory may hold one, and so may what a draft left there.
            buffer[:, :, end : _whole_blocks(end)] = 0
        keys, values = self.buffers
        return keys[:, :, :end], values[:, :, :end]

    def move_rows(self, sources: Sequence[int], target: int) -> None:
        """Copy the rows at `sources` to `target`, `target + 1`, ..."""
        rows = list(sources)
        for buffer in self.buffers:  # none, in a layer that reads another layer's rows
            buffer[:, :, target : target + len(rows)] = buffer[:, :, rows]

    def copy_rows(self, start: int, end: int) -> tuple[Tensor, ...]:
        """Copies of the rows from `start` up to `end`, as far as there are any."""
        return tuple(buffer[:, :, start:end].clone() for buffer in self.buffers)

    def put_rows(self, start: int, copies: tuple[Tensor, ...]) -> None:
        """Write what `copy_rows` gave."""
        for buffer, rows in zip(self.buffers, copies, strict=True):
            buffer[:, :, start : start + rows.shape[2]] = rows

    def get_seq_length(self) -> int:
        """Rows in use, as transformers asks for it."""
        return self._extent.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(rows after the coming pass, offset of the first), as transformers asks for it."""
        return self._extent.length + query_length, 0

    def get_max_length(self) -> int:
        """-1: the buffers grow."""
        return -1

    def _grow(self, num_rows: int) -> None:
        self._extent.capacity = max(self._extent.capacity, num_rows + num_rows // 2)
        start = self._extent.length
        grown = tuple(_buffer_like(buffer, self._extent.capacity) for buffer in self.buffers)
        for new, old in zip(grown, self.buffers, strict=True):
            new[:, :, :start] = old[:, :, :start]
        self.buffers = grown


def _buffer_like(states: Tensor, num_rows: int) -> Tensor:
    batch, heads, _, dim = states.shape
    return states.new_empty((batch, heads, _whole_blocks(num_rows), dim))


def _whole_blocks(num_rows: int) -> int:
    return -(-num_rows // KEY_BLOCK) * KEY_BLOCK
