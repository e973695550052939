"""Cost curves: what one pass takes, by the number of its rows, for the target and for drafts."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfdraft.engine import Engine
from selfdraft.model.kv_cache import KVCache
from selfdraft.model.view import ModelView

TARGET = "target"

_NUM_ROWS = (1, 2, 4, 8, 16, 32)
_NUM_REPEATS = 7


@dataclass(frozen=True, slots=True)
class PassCost:
    """Median seconds of a pass of `num_rows` chained rows behind `context` cached ones."""

    plan: str
    num_rows: int
    context: int
    seconds: float


def measure_passes(
    engine: Engine,
    drafts: Mapping[str, ModelView],
    *,
    context: int = 256,
    num_rows: Sequence[int] = _NUM_ROWS,
    num_repeats: int = _NUM_REPEATS,
) -> list[PassCost]:
    """Time passes of the target for each number of rows, and one-row passes of each draft.

    All are timed in turn, so that a change of the machine's speed meets every one of them.
    """
    token_ids = [(7 * i * i + 11 * i + 3) % engine.target.vocab_size for i in range(context)]
    cache = engine.target.new_cache(context + max(num_rows) + 2)
    engine.target.prefill(cache, token_ids)
    passes: dict[tuple[str, int], ModelView] = {(TARGET, n): engine.target for n in num_rows}
    passes |= {(name, 1): view for name, view in drafts.items()}
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in passes}
    for repeat in range(num_repeats + 1):
        for key, view in passes.items():
            taken = _time_pass(view, cache, token_ids[: key[1]])
            if repeat:  # the first is the warm-up
                seconds[key].append(taken)
    return [
        PassCost(plan, rows, context, statistics.median(times))
        for (plan, rows), times in seconds.items()
    ]


def _time_pass(view: ModelView, cache: KVCache, token_ids: Sequence[int]) -> float:
    paths = tuple(tuple(range(row + 1)) for row in range(len(token_ids)))
    start = time.perf_counter()
    float(view.forward(cache, token_ids, paths)[0, 0])  # reading a value waits for the device
    return time.perf_counter() - start
