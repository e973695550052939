"""What speculation costs beyond its forward passes, on a planted target with a perfect draft.

With acceptance 1, chains of k tokens cannot do better than

    speedup = (k + 1) / (k c + v)        c = draft step / vanilla step, v = check of k+1 / same

(Leviathan et al. 2023, arXiv 2211.17192, with the cost of verification kept). The step costs are
measured by themselves; whatever the measured speedup lacks is overhead of ours.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfdraft.bench.run.peak_memory import peak_bytes, reset_peak
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafts import Draft
from selfdraft.engine import Engine
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.view import ModelView


@dataclass(frozen=True, slots=True)
class ChainOverhead:
    """Measured against predicted for chains of `num_steps` tokens.

    The speedup is the median over prompts of vanilla's decode seconds over speculation's, for the
    same tokens.
    """

    num_steps: int
    draft_cost: float
    """c: one draft step over one vanilla step."""
    verify_cost: float
    """v: one check of num_steps + 1 rows over one vanilla step."""
    predicted_speedup: float
    measured_speedup: float
    mean_accepted_length: float
    peak_memory_ratio: float | None
    """Peak memory with speculation over that of vanilla; None where it cannot be measured."""

    @property
    def efficiency(self) -> float:
        """Measured / predicted speedup: 1 is no overhead."""
        return self.measured_speedup / self.predicted_speedup


def measure_chain(
    engine: Engine,
    skip_set: SkipSet,
    prompts: Sequence[list[int]],
    *,
    num_steps: int,
    num_rounds: int,
    on_step: Callable[[], None] = lambda: None,
) -> ChainOverhead:
    """Decode each prompt in vanilla fashion and with chains, in turn, and time single passes.

    The passes are timed between the generations, on the same contexts, so that a change of the
    machine's speed meets both.
    """
    modes: dict[str, Draft] = {
        "off": "off",
        "chain": DraftConfig.chain(num_steps, skip_set=skip_set),
    }
    max_new_tokens = num_rounds * (num_steps + 1)
    _decode_seconds(engine, prompts[0], "off", max_new_tokens)  # warm-up
    steps = _StepTimes()
    draft_view = engine.target.draft_view(DraftPlan(skip_set))
    speedups: list[float] = []
    lengths: list[float] = []
    peaks: dict[str, int] = {}
    for prompt in prompts:
        seconds: dict[str, float] = {}
        for name, mode in modes.items():
            is_measurable = reset_peak()
            seconds[name], length = _decode_seconds(engine, prompt, mode, max_new_tokens)
            if is_measurable:
                peaks[name] = max(peaks.get(name, 0), peak_bytes())
            on_step()
        speedups.append(seconds["off"] / seconds["chain"])
        lengths.append(length)
        steps.add(engine, draft_view, prompt, num_steps, max_new_tokens)
        on_step()
    c, v = steps.relative_costs()
    return ChainOverhead(
        num_steps=num_steps,
        draft_cost=c,
        verify_cost=v,
        predicted_speedup=(num_steps + 1) / (num_steps * c + v),
        measured_speedup=statistics.median(speedups),
        mean_accepted_length=statistics.mean(lengths),
        peak_memory_ratio=peaks["chain"] / peaks["off"] if peaks else None,
    )


def _decode_seconds(
    engine: Engine, prompt: list[int], draft: Draft, max_new_tokens: int
) -> tuple[float, float]:
    """Seconds of all rounds, and tokens per round."""
    stats = engine.generate(prompt, draft=draft, max_new_tokens=max_new_tokens).stats
    assert stats.num_new_tokens == max_new_tokens, "a planted target has no end token"
    return stats.decode_seconds, stats.mean_accepted_length


class _StepTimes:
    """Times of single passes at the middle of an output, in turn: vanilla, draft, check."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {"vanilla": [], "draft": [], "verify": []}

    def add(
        self,
        engine: Engine,
        draft_view: ModelView,
        prompt: list[int],
        num_steps: int,
        max_new_tokens: int,
        num_repeats: int = 7,
    ) -> None:
        context = [prompt[i % len(prompt)] for i in range(len(prompt) + max_new_tokens // 2)]
        cache = engine.target.new_cache(len(context) + num_steps + 2)
        engine.target.prefill(cache, context)
        for _ in range(num_repeats):
            self._time("vanilla", engine.target, cache, context[:1])
            self._time("draft", draft_view, cache, context[:1])
            self._time("verify", engine.target, cache, context[: num_steps + 1])

    def relative_costs(self) -> tuple[float, float]:
        """(c, v): median draft step and median check, over the median vanilla step."""
        median = {name: statistics.median(values) for name, values in self._seconds.items()}
        return median["draft"] / median["vanilla"], median["verify"] / median["vanilla"]

    def _time(self, name: str, view: ModelView, cache: KVCache, token_ids: list[int]) -> None:
        paths = tuple(tuple(range(row + 1)) for row in range(len(token_ids)))
        start = time.perf_counter()
        float(view.forward(cache, token_ids, paths)[0, 0])  # reading a value waits for the device
        self._seconds[name].append(time.perf_counter() - start)
