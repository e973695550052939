"""Attention of new rows by our own kernel (ADR 12), where the CPU can.

`csrc/path_attention.c` is built when the package is installed, if there is a GCC, and needs AVX512;
without it `row_attention` computes the same with torch's kernel, in more time.
"""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from selfdraft.model.attention.row_paths import RowPaths
from selfdraft.model.kernels.compiled import Kernel, load_kernel
from selfdraft.shapes import Keys, Queries, Values

_VERSION = 1  # of the arguments; a build from before a change of them is not used
_LANES = 16  # of a vector: heads are a multiple of it wide
_QUERIES = 4  # that a thread handles at a time, each with its own row of scores


class _Arguments(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_void_p) for n in ("query", "key", "value", "output", "paths", "room")),
        *((n, ctypes.c_int64) for n in ("query_head", "query_row", "key_head", "key_row")),
        *((n, ctypes.c_int64) for n in ("value_head", "value_row", "num_rows", "num_paths")),
        *((n, ctypes.c_int64) for n in ("num_kv_heads", "group", "key_dim", "value_dim")),
        *((n, ctypes.c_int64) for n in ("prefix", "path_columns", "room_columns")),
        ("scale", ctypes.c_float),
        ("num_threads", ctypes.c_int32),
    )


@lru_cache
def _kernel() -> Kernel | None:
    return load_kernel("path_attention", _VERSION, [ctypes.POINTER(_Arguments)])


def is_there() -> bool:
    """Whether the kernel was built, and this CPU can run it."""
    return _kernel() is not None


def can_attend(query: Queries, key: Keys, value: Values) -> bool:
    """Whether the kernel is there and made for such states."""
    return is_there() and all(
        states.dtype == torch.bfloat16
        and states.device.type == "cpu"
        and states.shape[0] == 1
        and states.shape[3] % _LANES == 0
        and states.stride(3) == 1
        for states in (query, key, value)
    )


def attend(
    query: Queries,
    key: Keys,
    value: Values,
    starts: tuple[int, ...],
    row_paths: RowPaths,
    scaling: float | None,
) -> Tensor:
    """The attention of every row, of shape `[1, new_rows, heads, dim]`."""
    kernel = _kernel()
    assert kernel is not None, "asked for only where it is there"
    _, num_heads, num_rows, key_dim = query.shape
    _, num_kv_heads, num_keys, value_dim = value.shape
    paths = row_paths.table(starts)
    threads, columns = torch.get_num_threads(), -(-num_keys // _LANES) * _LANES
    output = query.new_empty(1, num_rows, num_heads, value_dim)
    room = torch.empty(threads * _QUERIES * (key_dim + columns), dtype=torch.float32)
    arguments = _Arguments(
        *(states.data_ptr() for states in (query, key, value, output, paths, room)),
        *(stride for states in (query, key, value) for stride in states.stride()[1:3]),
        num_rows,
        paths.shape[0],
        num_kv_heads,
        num_heads // num_kv_heads,
        key_dim,
        value_dim,
        num_keys - num_rows,
        paths.shape[1],
        columns,
        key_dim**-0.5 if scaling is None else scaling,
        threads,
    )
    kernel(ctypes.byref(arguments))
    return output
