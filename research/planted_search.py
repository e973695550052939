"""The known answer: does a search find the layers that were planted, and how soon?

The size of the set is free: the search has to find how much can be skipped, too.
"""

from dataclasses import dataclass

from research.planted import PlantedTarget
from research.search_curve import SearchCurve, follow
from research.strategy_runs import RecordedText
from selfdraft.engine import Engine
from selfdraft.model.skip_set import SkipSet
from selfdraft.search.ahead_of_time import Tuning
from selfdraft.search.search_config import SearchConfig

ENOUGH = 0.95
"""Share of the planted sublayers that counts as found."""

_LONGEST_PATIENCE = 200  # as of `selfdraft search`


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a set is worth as a draft, on the text that was searched on and on other text."""

    matchness: float
    predicted_speedup: float
    held_out_matchness: float
    held_out_predicted_speedup: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedRun:
    """One search on one planted target."""

    seed: int
    """Of the places of the planted layers, and of the search."""
    num_planted: int
    """Redundant sublayers."""
    num_found: int
    num_wrong: int
    """Real sublayers that the found set skips as well."""
    found: Worth
    planted: Worth
    """Of exactly the planted sublayers: with noise they do add something."""
    num_proposals: int
    proposals_to_enough: int | None
    """After so many the best set held `ENOUGH` of the planted sublayers; None if it never did."""
    seconds: float
    ended_by: str | None

    @property
    def found_ratio(self) -> float:
        """Found / planted sublayers."""
        return self.num_found / self.num_planted


def search_planted(
    engine: Engine, planted: PlantedTarget, text: RecordedText, *, num_proposals: int, seed: int
) -> PlantedRun:
    """Run the default search on `engine`, whose model is the planted one."""
    config = SearchConfig(
        max_proposals=num_proposals,
        patience=min(_LONGEST_PATIENCE, num_proposals),
        time_share=None,
        seed=seed,
    )
    tuning = Tuning(engine.target, text.windows, text.costs, config)
    curve = follow(tuning, engine.target.device)
    perfect = planted.perfect_skip_set
    num_found = num_shared(tuning.best, perfect)
    return PlantedRun(
        seed=seed,
        num_planted=perfect.num_skipped,
        num_found=num_found,
        num_wrong=tuning.best.num_skipped - num_found,
        found=_worth(tuning, text, engine, tuning.best),
        planted=_worth(tuning, text, engine, perfect),
        num_proposals=tuning.num_proposals,
        proposals_to_enough=_first_enough(curve, perfect),
        seconds=curve.seconds,
        ended_by=tuning.reason,
    )


def _worth(tuning: Tuning, text: RecordedText, engine: Engine, skip_set: SkipSet) -> Worth:
    seen, unseen = tuning.score(skip_set), text.held_out_agreement(engine, skip_set)
    return Worth(
        matchness=seen.matchness,
        predicted_speedup=tuning.predict_speedup(skip_set, seen),
        held_out_matchness=unseen.matchness,
        held_out_predicted_speedup=tuning.predict_speedup(skip_set, unseen),
    )


def num_shared(one: SkipSet, other: SkipSet) -> int:
    """Sublayers that both sets skip."""
    attention = set(one.attention) & set(other.attention)
    return len(attention) + len(set(one.mlp) & set(other.mlp))


def _first_enough(curve: SearchCurve, perfect: SkipSet) -> int | None:
    """Proposals until the best set held `ENOUGH` of what was planted."""
    return next(
        (
            number
            for number, best in enumerate(curve.points)
            if num_shared(best.skip_set, perfect) >= ENOUGH * perfect.num_skipped
        ),
        None,
    )
