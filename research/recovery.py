"""How soon a draft is good again after the text has changed its kind, and whether it is at all.

Judged by acceptance alone, within one segment: what the segment's second half has is the level, and
a draft is back where it has that level, less a margin, from there to the middle of the segment. Had
it not reached the level by then, the second half was no steady state, and no number is given. A
level can also be low: then the draft is where it stays, but lower than it was. Kinds of text differ
in how well they can be drafted, so that need not be the draft's fault.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from selfdraft.drafting.chain_outcome import ChainOutcome

RECOVERY_WINDOW = 32
"""Rounds with a draft whose acceptance, together, must be back."""

RECOVERY_MARGIN = 0.05
"""Below the level; also how much lower than before a level must be to be called lower."""


class Verdict(StrEnum):
    """What is known of a segment's recovery."""

    BACK = "back"
    LOWER = "lower"
    """Below the level of the segment before, or the first half, by more than the margin."""
    NEVER = "never"
    """The level was not reached in the first half: acceptance was still rising."""
    NO_DRAFT = "no draft"
    """The second half drafted nothing."""
    TOO_SHORT = "too short"
    """Fewer than two windows of rounds, or a segment that was not finished."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The way back of one draft in one segment."""

    verdict: Verdict
    num_rounds: int | None
    """Rounds before the first of those that are back; given if the verdict is BACK or LOWER."""
    level: float | None
    """Acceptance of the second half."""


def recovery_of(outcomes: Sequence[ChainOutcome], level_before: float | None = None) -> Recovery:
    """The recovery in the rounds of a whole segment.

    `level_before` is the level of the segment before it, if there was one.
    """
    middle = len(outcomes) // 2
    level = acceptance_of(outcomes[middle:])
    if middle < RECOVERY_WINDOW:
        return Recovery(Verdict.TOO_SHORT, None, level)
    if level is None:
        return Recovery(Verdict.NO_DRAFT, None, None)
    num_rounds = _first_steady_round(outcomes, level - RECOVERY_MARGIN)
    if num_rounds is None:
        return Recovery(Verdict.NEVER, None, level)
    before = max(level_before or 0.0, acceptance_of(outcomes[:middle]) or 0.0)
    verdict = Verdict.LOWER if level < before - RECOVERY_MARGIN else Verdict.BACK
    return Recovery(verdict, num_rounds, level)


def acceptance_of(outcomes: Iterable[ChainOutcome]) -> float | None:
    """Drafted tokens that were right, over those that were right or wrong; None without any."""
    num_right = num_judged = 0
    for outcome in outcomes:
        num_right += outcome.num_right
        num_judged += outcome.num_right + outcome.was_wrong
    return num_right / num_judged if num_judged else None


def _first_steady_round(outcomes: Sequence[ChainOutcome], enough: float) -> int | None:
    """The first round with a draft from which a window and the way to the middle have `enough`.

    Rounds without a draft are passed over: they were not good, there was nothing in them.
    """
    drafted = [number for number, o in enumerate(outcomes) if o.num_right or o.was_wrong]
    right = [0, *accumulate(outcomes[number].num_right for number in drafted)]
    wrong = [0, *accumulate(int(outcomes[number].was_wrong) for number in drafted)]

    def is_good(start: int, end: int) -> bool:
        num_right, num_wrong = right[end] - right[start], wrong[end] - wrong[start]
        return num_right >= enough * (num_right + num_wrong)

    middle = len(outcomes) // 2
    before_middle = sum(number < middle for number in drafted)
    for place in range(before_middle):
        window_end = min(place + RECOVERY_WINDOW, len(drafted))
        if is_good(place, window_end) and is_good(place, before_middle):
            return drafted[place]
    return None
