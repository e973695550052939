"""Speed as a ratio of totals, with an interval that says how far the prompts allow to know it.

The interval is a paired bootstrap over prompts: prompts are drawn with replacement, and for each
draw both methods' totals are made of the same prompts. It covers the choice of prompts, and the
noise of single measurements, but not a machine that was slow for hours; that is what turns are for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfdraft.bench.run.measurement import Measurement

_NUM_DRAWS = 2000
_CONFIDENCE = 0.95
_SEED = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens and seconds of one method, one entry per prompt; repeats are added up."""

    prompts: tuple[tuple[str, int], ...]
    """Task and index of each prompt."""
    num_tokens: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @classmethod
    def total(cls, measurements: Sequence[Measurement]) -> "Work":
        """With prefill: all new tokens, all the time."""
        return cls._per_prompt(
            measurements, [(len(m.token_ids), m.total_seconds) for m in measurements]
        )

    @classmethod
    def decode(cls, measurements: Sequence[Measurement]) -> "Work | None":
        """Without prefill; None where that was not measured."""
        seconds = [m.decode_seconds for m in measurements if m.decode_seconds is not None]
        if len(seconds) < len(measurements):
            return None
        tokens = [m.num_decoded for m in measurements]
        return cls._per_prompt(measurements, list(zip(tokens, seconds, strict=True)))

    @property
    def tokens_per_second(self) -> float:
        """Ratio of totals; 0 if nothing was measured."""
        seconds = float(self.seconds.sum())
        return float(self.num_tokens.sum()) / seconds if seconds else 0.0

    @classmethod
    def _per_prompt(
        cls, measurements: Sequence[Measurement], values: Sequence[tuple[float, float]]
    ) -> "Work":
        sums: dict[tuple[str, int], list[float]] = {}
        for measurement, (tokens, seconds) in zip(measurements, values, strict=True):
            entry = sums.setdefault((measurement.task, measurement.prompt_index), [0.0, 0.0])
            entry[0] += tokens
            entry[1] += seconds
        # In one order for all methods, so that entry i is the same prompt everywhere.
        prompts = tuple(sorted(sums))
        table = np.array([sums[key] for key in prompts], dtype=np.float64).reshape(-1, 2)
        return cls(prompts, table[:, 0], table[:, 1])


@dataclass(frozen=True, slots=True)
class Speedup:
    """Tokens per second over those of the baseline, and where 95 of 100 bootstrap draws lie."""

    value: float
    low: float | None
    high: float | None
    """None with a single prompt: there is nothing to draw from."""


def speedup(method: Work | None, baseline: Work | None) -> Speedup | None:
    """How many times as fast `method` is as `baseline` on the same prompts.

    None without prompts, or if one of the two was not measured.
    """
    if method is None or baseline is None:
        return None
    assert method.prompts == baseline.prompts, "both have the same prompts"
    if not method.tokens_per_second or not baseline.tokens_per_second:
        return None
    value = method.tokens_per_second / baseline.tokens_per_second
    num_prompts = len(method.seconds)
    if num_prompts < 2:
        return Speedup(value, None, None)
    draws = np.random.default_rng(_SEED).integers(num_prompts, size=(_NUM_DRAWS, num_prompts))
    with np.errstate(invalid="ignore"):  # a draw of nothing but prompts without decoding
        ratios = _rates(method, draws) / _rates(baseline, draws)
    ratios = ratios[np.isfinite(ratios)]
    tail = (1 - _CONFIDENCE) / 2
    if not len(ratios):
        return Speedup(value, None, None)
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Speedup(value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class SlowestPrompt:
    """The prompt on which a method gains least, or loses most."""

    task: str
    prompt_index: int
    value: float
    """Tokens per second over those of the baseline, on this prompt alone."""


def slowest_prompt(method: Work, baseline: Work) -> SlowestPrompt | None:
    """Where `method` is slowest in comparison with `baseline`; None without any prompt."""
    assert method.prompts == baseline.prompts, "both have the same prompts"
    if not method.tokens_per_second or not baseline.tokens_per_second:
        return None
    ratios = method.num_tokens / method.seconds / (baseline.num_tokens / baseline.seconds)
    place = int(ratios.argmin())
    return SlowestPrompt(*method.prompts[place], float(ratios[place]))


def _rates(work: Work, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    rates: NDArray[np.float64] = work.num_tokens[draws].sum(axis=1) / work.seconds[draws].sum(
        axis=1
    )
    return rates
