"""What speculation would gain on hardware that one does not have: chains, drafted and checked.

With acceptance a per position, a chain of k drafted tokens yields (1 - a**(k+1)) / (1 - a) tokens a
round (Leviathan et al. 2023, arXiv 2211.17192), which takes k draft passes and one check of k + 1
rows. Passes are priced by `roofline`. The chain that is best in this sense is simulated; drafts
that stop when they are unsure do better, up to `ceiling`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from selfdraft.bench.model_shape import ModelShape
from selfdraft.bench.roofline import Device, PassKind, pass_seconds
from selfdraft.config import require
from selfdraft.errors import ConfigError

_MAX_CHAIN = 32
_WORTH = 1.001  # a longer chain is taken if it gains at least this

# Share of tokens that a draft with skipped sublayers predicts as the target does, by skip ratio.
# Small: Qwen2.5-Coder-1.5B on its own text, best sets found. Large: SWIFT's
# own reports of 13B and 70B models (arXiv 2410.06916). Between the two sizes it is interpolated
# over the logarithm of the parameters, which is an assumption.
_SMALL = ((0.0, 1.0), (0.1, 0.92), (0.2, 0.78), (0.3, 0.62), (0.5, 0.3), (1.0, 0.0))
_LARGE = ((0.0, 1.0), (0.45, 0.97), (0.5, 0.96), (0.6, 0.8), (1.0, 0.0))
_SMALL_SIZE, _LARGE_SIZE = 1.5e9, 13e9

_INT8, _INT4 = 0.985, 0.93
_FREE = 0.35

SKIP_RATIOS = (0.1, 0.2, 0.3, 0.45, 0.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to draft, and how often it is right."""

    name: str
    acceptance: float
    kind: PassKind | None
    """None: drafting costs nothing."""

    def __post_init__(self) -> None:
        require(
            0 <= self.acceptance <= 1,
            f"acceptance of {self.name} is {self.acceptance}: give 0 to 1",
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a plan gains with its best chain. A chain of 0 is plain decoding."""

    plan: str
    acceptance: float
    draft_cost: float
    """A draft pass over a plain pass of the target."""
    chain: int
    tokens_per_round: float
    speedup: float
    ceiling: float
    """With perfect stopping and free checks: 1 / (1 - a (1 - c))."""


@dataclass(frozen=True, slots=True)
class Acceptances:
    """Acceptance curves, assumed unless given."""

    skip: tuple[tuple[float, float], ...] | None = None
    """(skip ratio, acceptance) in rising order; None: by the model's size."""
    int8: float = _INT8
    int4: float = _INT4
    free: float = _FREE

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Acceptances":
        """Read `skip:0.1=0.92`, `int8=0.98`, `int4=0.9`, `free=0.4`.

        Raises:
            ConfigError: a text is written otherwise.
        """
        curve: dict[float, float] = {0.0: 1.0, 1.0: 0.0}
        rates = {"int8": _INT8, "int4": _INT4, "free": _FREE}
        for text in texts:
            name, _, value = text.partition("=")
            kind, _, ratio = name.partition(":")
            try:
                if kind == "skip":
                    curve[float(ratio)] = float(value)
                else:
                    rates[name] = float(value) if name in rates else math.nan
            except ValueError:
                rates[name] = math.nan
            if math.isnan(rates.get(name, 0.0)):
                raise ConfigError(
                    f"acceptance {text!r}: write skip:RATIO=RATE, int8=RATE, int4=RATE or free=RATE"
                )
        has_curve = len(curve) > 2
        return cls(tuple(sorted(curve.items())) if has_curve else None, **rates)

    def of_skipping(self, ratio: float, shape: ModelShape) -> float:
        """Acceptance of a draft that skips this share."""
        if self.skip is not None:
            return _on_curve(self.skip, ratio)
        position = math.log(shape.num_parameters / _SMALL_SIZE) / math.log(
            _LARGE_SIZE / _SMALL_SIZE
        )
        share = min(1.0, max(0.0, position))
        return (1 - share) * _on_curve(_SMALL, ratio) + share * _on_curve(_LARGE, ratio)


def plans_for(shape: ModelShape, acceptances: Acceptances) -> list[Plan]:
    """Free drafts, two low-bit copies, and skip sets of several ratios."""
    skips = [
        Plan(f"skip {r:.0%}", acceptances.of_skipping(r, shape), PassKind(skip_ratio=r))
        for r in SKIP_RATIOS
    ]
    return [
        Plan("free", acceptances.free, None),
        Plan("int8", acceptances.int8, PassKind(weight_bits=8)),
        Plan("int4", acceptances.int4, PassKind(weight_bits=4)),
        *skips,
    ]


def predict(
    shape: ModelShape, device: Device, plan: Plan, *, context: int = 256, batch: int = 1
) -> Prediction:
    """The best chain for `plan`, and what it gains over plain decoding.

    All sequences of a batch are counted with the mean tokens of a round: in truth each waits for
    the others' rounds, which all take the same time here.
    """

    def seconds(kind: PassKind, num_rows: int = 1) -> float:
        return pass_seconds(shape, device, kind, num_rows=num_rows, context=context, batch=batch)

    vanilla = seconds(PassKind())
    draft = 0.0 if plan.kind is None else seconds(plan.kind)
    best, chain, tokens = 1.0, 0, 1.0
    for length in range(1, _MAX_CHAIN + 1):
        expected = tokens_per_round(plan.acceptance, length)
        gain = expected * vanilla / (length * draft + seconds(PassKind(), length + 1))
        if gain > best * _WORTH:
            best, chain, tokens = gain, length, expected
    cost = draft / vanilla
    free_share = 1 - plan.acceptance * (1 - cost)
    ceiling = math.inf if free_share <= 0 else max(1.0, 1 / free_share)
    return Prediction(plan.name, plan.acceptance, cost, chain, tokens, best, ceiling)


def tokens_per_round(acceptance: float, chain: int) -> float:
    """Expected tokens of a round with `chain` drafted positions, the bonus token included."""
    if acceptance >= 1:
        return chain + 1.0
    return float((1 - acceptance ** (chain + 1)) / (1 - acceptance))


def _on_curve(curve: Sequence[tuple[float, float]], ratio: float) -> float:
    """Linear between the points."""
    for (low, before), (high, after) in pairwise(curve):
        if low <= ratio <= high:
            return before + (after - before) * (ratio - low) / (high - low)
    return curve[-1][1]
