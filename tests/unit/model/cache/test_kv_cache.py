"""The KV cache: one logical length, and buffers that only ever grow."""

import pytest
import torch
from torch import Tensor

from selfdraft.model.cache.kv_cache import KEY_BLOCK, KVCache


def rows(*values: float) -> Tensor:
    """Keys of 2 heads and dimension 3; every entry of a row is its value."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1).expand(1, 2, -1, 3)


def content(cache: KVCache, layer: int = 0) -> list[float]:
    keys, values = cache.layers[layer].buffers
    assert torch.equal(values[:, :, : cache.length], -keys[:, :, : cache.length])
    return keys[0, 1, : cache.length, 2].tolist()


def write(cache: KVCache, layer: int, *values: float) -> tuple[Tensor, Tensor]:
    return cache.update(rows(*values), -rows(*values), layer)


def test_writing_does_not_move_the_length() -> None:
    """Guards against rows that count before they are verified."""
    cache = KVCache(1, 8)
    write(cache, 0, 1, 2)
    assert cache.length == cache.get_seq_length() == 0
    cache.advance(2)
    keys, values = write(cache, 0, 3)
    assert keys[0, 0, :, 0].tolist() == [1, 2, 3]
    assert values[0, 0, :, 0].tolist() == [-1, -2, -3]
    assert content(cache) == [1, 2]


def test_rewound_rows_are_overwritten() -> None:
    """Guards against verification that appends behind the draft's rows."""
    cache = KVCache(1, 8)
    write(cache, 0, 1, 2, 3)
    cache.advance(3)
    cache.rewind(1)
    keys, _ = write(cache, 0, 8, 9)
    assert keys[0, 0, :, 0].tolist() == [1, 8, 9]


@pytest.mark.parametrize(
    ("offsets", "kept"),
    [
        ((0,), [1, 10]),
        ((0, 1, 2), [1, 10, 11, 12]),
        ((0, 3), [1, 10, 13]),
        ((0, 2, 3, 5), [1, 10, 12, 13, 15]),
        ((0, 1, 4, 5), [1, 10, 11, 14, 15]),
    ],
)
def test_keep_moves_the_path_to_the_front(offsets: tuple[int, ...], kept: list[float]) -> None:
    """Guards against rows moved onto rows that are still to be moved."""
    cache = KVCache(2, 16)
    for layer in range(2):
        write(cache, layer, 1)
    cache.advance(1)
    for layer in range(2):
        write(cache, layer, 10, 11, 12, 13, 14, 15)
    cache.keep(offsets)
    assert content(cache, 0) == content(cache, 1) == kept
    assert cache.length == len(kept)


def test_growth_keeps_the_sequence() -> None:
    """Guards against rows that are lost when the buffers are reallocated."""
    cache = KVCache(1, 1)
    for value in range(50):
        write(cache, 0, value)
        cache.advance(1)
    assert content(cache) == list(range(50))


def test_growth_is_rare() -> None:
    """Guards against a reallocation for every token."""
    cache, addresses = KVCache(1, 4), set()
    for value in range(200):
        write(cache, 0, value)
        cache.advance(1)
        addresses.add(cache.layers[0].buffers[0].shape[2])
    assert len(addresses) < 12


def test_no_growth_within_the_capacity() -> None:
    """Guards against buffers that are smaller than what was asked for."""
    cache = KVCache(1, 64)
    write(cache, 0, 1)
    address = cache.layers[0].buffers[0].data_ptr()
    cache.advance(1)
    write(cache, 0, *range(63))
    assert cache.layers[0].buffers[0].data_ptr() == address
    assert cache.num_bytes() == 2 * 2 * 64 * 3 * 4


def test_a_layer_that_was_skipped_grows_later() -> None:
    """Guards against a layer whose buffers stayed small while a draft skipped its attention."""
    cache = KVCache(2, 2)
    for layer in range(2):
        write(cache, layer, 1)
    cache.advance(1)
    write(cache, 0, 5, 6, 7, 8)  # the draft: layer 1 is skipped
    cache.advance(4)
    cache.rewind(1)
    for layer in range(2):
        write(cache, layer, 2, 3, 4, 5)
    cache.keep((0, 2))
    assert content(cache, 0) == content(cache, 1) == [1, 2, 4]


def test_keep_passes_over_a_layer_without_rows() -> None:
    """Guards against a layer that reads another layer's rows and has none itself."""
    cache = KVCache(2, 8)
    write(cache, 0, 1, 2, 3)
    cache.keep((0, 2))
    assert content(cache, 0) == [1, 3]


def test_rewind_goes_back_only() -> None:
    """Guards against rows that are declared verified by rewinding forwards."""
    cache = KVCache(1, 8)
    with pytest.raises(AssertionError, match="rewind"):
        cache.rewind(1)
    with pytest.raises(AssertionError, match="rewind"):
        cache.rewind(-1)


def test_what_transformers_asks() -> None:
    """Guards against masks sized from another length than the cache's."""
    cache = KVCache(2, 8)
    write(cache, 0, 1, 2)
    cache.advance(2)
    assert cache.layers[1].get_mask_sizes(3) == (5, 0)
    assert cache.layers[0].get_max_length() == -1
    assert not cache.layers[0].is_sliding


def test_what_lies_behind_the_rows_is_zero_after_every_write() -> None:
    """Attention reads whole blocks and multiplies the rest by zero, which a NaN survives.

    New memory may hold one, a draft may leave one, and a search once put one back.
    """
    cache = KVCache(1, KEY_BLOCK)
    write(cache, 0, 1, 2, 3)
    cache.advance(3)
    for length in (3, 2):
        cache.rewind(length)
        for buffer in cache.layers[0].buffers:
            buffer[:, :, length:] = torch.nan
        write(cache, 0, 7, 8)
        for buffer in cache.layers[0].buffers:
            assert (buffer[:, :, length + 2 : KEY_BLOCK] == 0).all()


@pytest.mark.parametrize("num_rows", [2, KEY_BLOCK])
def test_a_rewound_cache_gets_every_row_back(num_rows: int) -> None:
    """A write also clears what lies behind it, which in a rewound cache is text."""
    cache = KVCache(1, KEY_BLOCK)
    write(cache, 0, *range(1, 41))
    cache.advance(40)
    with cache.rewound(5):
        write(cache, 0, *[99] * num_rows)
    assert content(cache) == list(range(1, 41))
