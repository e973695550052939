"""What a draft is worth: predicted tokens per second over those of plain decoding.

A chain of k drafted tokens, each kept with probability a if those before it were, costs k draft
steps and one check of k + 1 rows, and yields 1 + a + ... + a^k tokens (Leviathan et al. 2023,
arXiv 2211.17192, section 3, with the cost of verification kept). The worth is that of the best
k from 1 on; below 1, plain decoding is faster.
"""

from collections.abc import Callable
from dataclasses import dataclass

_LONGEST_CHAIN = 16


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
