"""Search strategies side by side: each on the same recorded text, from the same start.

What counts is the best matchness after so many proposals, what it is worth on text that the search
did not see, and the seconds it took.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from research.search_curve import SearchCurve, follow
from selfdraft.config import require
from selfdraft.engine import Engine
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.skip_set import SkipSet
from selfdraft.search.ahead_of_time import PassCosts, Tuning
from selfdraft.search.matchness import Agreement, Window, measure_agreement
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.strategies.table import Strategy

CHECKPOINTS = (1, 5, 10, 25, 50, 100)
"""Numbers of proposals after which the best is noted."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedText:
    """What the strategies are compared on. The held-out windows are of other prompts."""

    windows: Sequence[Window]
    held_out: Sequence[Window]
    costs: PassCosts

    def held_out_agreement(self, engine: Engine, skip_set: SkipSet) -> Agreement:
        """The agreement of a draft with this set, on text that no search saw."""
        view = engine.target.draft_view(DraftPlan(skip_set))
        return measure_agreement(view, self.held_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyRun:
    """One strategy at one skip ratio, from one seed."""

    strategy: Strategy
    skip_ratio: float
    seed: int
    start_matchness: float
    """Of the evenly spread set, which all strategies start from."""
    best_matchness: dict[int, float]
    """By number of proposals. Where the strategy had less to propose, what it ended with."""
    held_out_matchness: float
    skip_set: SkipSet
    num_proposals: int
    seconds: float
    seconds_per_proposal: float
    """Everything included: the start's score, walks over hidden states, fits of an optimiser."""
    ended_by: str | None


def run_strategy(
    engine: Engine,
    text: RecordedText,
    strategy: Strategy,
    skip_ratio: float,
    *,
    num_proposals: int,
    seed: int = 0,
) -> StrategyRun:
    """Search with `strategy` until `num_proposals` are made, or it has nothing left to say.

    Raises:
        ConfigError: the model has too few sublayers for this ratio.
    """
    config = SearchConfig(
        skip_ratio=skip_ratio,
        max_proposals=num_proposals,
        patience=num_proposals,
        time_share=None,
        seed=seed,
    )
    tuning = Tuning(engine.target, text.windows, text.costs, config, strategy=strategy)
    require(
        tuning.space.count(skip_ratio) > 0,
        f"skip ratio {skip_ratio} skips none of {len(tuning.space)} units: give a larger one",
    )
    curve = follow(tuning, engine.target.device)
    return StrategyRun(
        strategy=strategy,
        skip_ratio=skip_ratio,
        seed=seed,
        start_matchness=curve.after(0).matchness,
        best_matchness=_at_checkpoints(curve, num_proposals),
        held_out_matchness=text.held_out_agreement(engine, tuning.best).matchness,
        skip_set=tuning.best,
        num_proposals=tuning.num_proposals,
        seconds=curve.seconds,
        seconds_per_proposal=curve.seconds / max(1, tuning.num_proposals),
        ended_by=tuning.reason,
    )


def _at_checkpoints(curve: SearchCurve, num_proposals: int) -> dict[int, float]:
    counts = sorted({count for count in CHECKPOINTS if count < num_proposals} | {num_proposals})
    return {count: curve.after(count).matchness for count in counts}
