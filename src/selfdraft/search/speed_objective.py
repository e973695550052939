"""What a draft is worth: predicted tokens per second over those of plain decoding.

A chain of k drafted tokens, each kept with probability a if those before it were, costs k draft
steps and one check of k + 1 rows, and yields 1 + a + ... + a^k tokens (Leviathan et al. 2023,
arXiv 2211.17192, section 3, with the cost of verification kept). The worth is that of the best
k from 1 on; below 1, plain decoding is faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from selfdraft.model.draft_plan import DraftPlan

_LONGEST_CHAIN = 16
_HALVINGS = 20


class Costs(Protocol):
    """What passes take, in seconds."""

    def verify_seconds(self, num_rows: int, context: int) -> float:
        """A verification of `num_rows` nodes behind `context` tokens."""
        ...

    def draft_seconds(self, plan: DraftPlan, context: int) -> float:
        """A draft step of `plan`."""
        ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best chain of a draft, and what it gains over plain decoding."""

    speedup: float
    num_steps: int


def predict(
    acceptance: float, draft_seconds: float, verify_seconds: Callable[[int], float]
) -> Prediction:
    """What a draft with this `acceptance` gains; `verify_seconds` is asked for numbers of rows."""
    vanilla = verify_seconds(1)
    best = Prediction(0.0, 0)
    num_tokens, probability = 1.0, 1.0
    for num_steps in range(1, _LONGEST_CHAIN + 1):
        probability *= acceptance
        num_tokens += probability
        seconds = num_steps * draft_seconds + verify_seconds(num_steps + 1)
        if num_tokens * vanilla / seconds > best.speedup:
            best = Prediction(num_tokens * vanilla / seconds, num_steps)
    return best


def break_even(draft_seconds: float, verify_seconds: Callable[[int], float]) -> float | None:
    """The acceptance from which on a draft is faster than plain decoding; None if it never is."""
    if predict(1.0, draft_seconds, verify_seconds).speedup <= 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if predict(middle, draft_seconds, verify_seconds).speedup > 1:
            high = middle
        else:
            low = middle
    return high


def ceiling(acceptance: float, relative_cost: float) -> float:
    """The speedup of a draft that always stops just before its first error.

    `relative_cost` is that of a draft step over a plain step; a check costs as much as that.
    """
    return 1 / (1 - acceptance * (1 - min(1.0, relative_cost)))
