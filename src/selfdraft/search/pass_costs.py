"""Seconds of one pass by its rows, of the target and of drafts, measured while nothing else runs.

The one place where passes are timed ahead of time: for the search, for benchmarks, and for
`selfdraft inspect --costs`. While text is written, `drafting.cost_model` learns from the passes
that run anyway.
"""

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch

from selfdraft.decoding.stopwatch import now
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.placement import available_memory
from selfdraft.model.target import Target
from selfdraft.model.view import ModelView

TARGET = "target"

Key = TypeVar("Key", bound=Hashable)

_NUM_ROWS = (1, 2, 4, 8, 16, 32)
_NUM_REPEATS = 7

# Read to learn the bandwidth: far more than the caches of a processor hold.
_READ_BYTES = 2**30
_READ_MEMORY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class PassCost:
    """Median seconds of a pass of `num_rows` chained rows behind `context` cached ones."""

    plan: str
    num_rows: int
    context: int
    seconds: float


def measure_passes(
    target: Target,
    drafts: Mapping[str, ModelView],
    *,
    context: int = 256,
    num_rows: Sequence[int] = _NUM_ROWS,
    num_repeats: int = _NUM_REPEATS,
) -> list[PassCost]:
    """Time passes of the target for each number of rows, and one-row passes of each draft."""
    token_ids = [(7 * i * i + 11 * i + 3) % target.vocab_size for i in range(context)]
    cache = target.new_cache(context + max(num_rows) + 2)
    target.prefill(cache, token_ids)
    passes: dict[tuple[str, int], ModelView] = {(TARGET, n): target for n in num_rows}
    passes |= {(name, 1): view for name, view in drafts.items()}
    timed = {key: (view, key[1]) for key, view in passes.items()}
    return [
        PassCost(plan, rows, context, seconds)
        for (plan, rows), seconds in time_passes(
            timed, cache, token_ids, num_repeats=num_repeats
        ).items()
    ]


@torch.inference_mode()
def time_passes(
    passes: Mapping[Key, tuple[ModelView, int]],
    cache: KVCache,
    token_ids: Sequence[int],
    *,
    num_repeats: int = _NUM_REPEATS,
) -> dict[Key, float]:
    """Median seconds of a pass of each view behind `cache`, with so many of `token_ids` in a chain.

    All are timed in turn, so that a change of the machine's speed meets every one of them, and once
    more at first, to warm up. Nothing is kept in the cache.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in passes}
    for repeat in range(num_repeats + 1):
        for key, (view, num_rows) in passes.items():
            taken = _seconds(view, cache, token_ids[:num_rows])
            if repeat:
                seconds[key].append(taken)
    return {key: statistics.median(times) for key, times in seconds.items()}


def seconds_of_rows(seconds: Mapping[int, float], num_rows: int) -> float:
    """A verification of `num_rows`, on the line between measured numbers of rows."""
    counts = sorted(seconds)
    for low, high in pairwise(counts):
        if num_rows <= high:
            share = (num_rows - low) / (high - low)
            return seconds[low] + share * (seconds[high] - seconds[low])
    return seconds[counts[-1]]


def rising(seconds: Mapping[int, float]) -> dict[int, float]:
    """`seconds` by rows, where more rows never cost less: what says so is noise."""
    most, result = 0.0, {}
    for count in sorted(seconds):
        most = max(most, seconds[count])
        result[count] = most
    return result


@torch.inference_mode()
def measure_read_bandwidth(device: torch.device) -> float | None:
    """Bytes per second that torch reads of a large tensor on `device`; None if unknown.

    With as many threads as models run with; it needs the memory. The best of a few reads: what
    disturbs one only ever adds time.
    """
    available = _free_memory(device)
    if available is None or available * _READ_MEMORY_SHARE < _READ_BYTES:
        return None
    numbers = torch.ones(
        _READ_BYTES // torch.bfloat16.itemsize, dtype=torch.bfloat16, device=device
    )
    words = numbers.view(torch.float32)  # the sum that torch has the fastest loop for
    taken = []
    for _ in range(_NUM_REPEATS):
        start = now(device)
        words.sum()
        taken.append(now(device) - start)
    return _READ_BYTES / min(taken)


def _free_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory() if device.type == "cpu" else None


def _seconds(view: ModelView, cache: KVCache, token_ids: Sequence[int]) -> float:
    paths = tuple(tuple(range(row + 1)) for row in range(len(token_ids)))
    start = now(view.device)
    view.forward(cache, token_ids, paths)
    return now(view.device) - start
