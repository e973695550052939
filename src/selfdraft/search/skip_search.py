"""The search for a skip set: propose one, score it on the text, keep the best (SWIFT, section 4.1).

`SkipSearch` is one search, online or ahead of time: it knows neither clocks nor requests. Each call
of `step` does one thing that costs about one pass of the model, so that whoever drives it can stop
between any two.

A set is scored on one window after another, and given up where it is behind the best set on those
so far. Most are given up soon, so that what takes the lead can be asked to be better on a lot of
text: on little text, the best of many sets is one that fits it by luck. For the same reason a swap,
of which there are many, and a set that skips less than the best, may be asked to lead by more than
their lead is uncertain. The sets of a walk are few, and swaps do not lead from one size to another
that is far: they are scored on all.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from selfdraft.search.matchness import Agreement, Window
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.strategies.hidden_state_sets import HiddenStateSets
from selfdraft.search.strategies.proposals import Evidence, Proposer, Swaps, Walk
from selfdraft.search.strategies.skip_space import SkipSpace, Units
from selfdraft.search.trace import NoTrace, Trace

Score = Callable[[Units, Window], Agreement]
"""One pass of the draft over a window."""

Worth = Callable[[Units, Agreement], float]
"""What is maximised: matchness itself, or predicted speed."""

StepKind = Literal["score", "walk"]

_LEAST = 1e-9  # a value may be zero

WORTHWHILE = 1.03
"""What a draft must promise before it counts: predictions are not that exact."""

# Where nothing is worth skipping, a set of one or two sublayers still leads now and then by luck.
# So where time is short, no more proposals than this are tried for it.
_ENOUGH_WITHOUT_SKIPS = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """One scored set."""

    units: Units
    agreement: Agreement
    """On the windows up to the one where it fell behind; on all of them if it took the lead."""
    values: tuple[float, ...]
    """By the first window, the first two, and so on; they compare with those of the same only."""
    source: str

    @property
    def value(self) -> float:
        """By all windows that it was scored on."""
        return self.values[-1]


class SkipSearch:
    """Looks for the set that is worth most on the present windows."""

    def __init__(
        self,
        space: SkipSpace,
        proposer: Proposer,
        start: Units,
        *,
        score: Score,
        worth: Worth,
        config: SearchConfig,
        trace: Trace | None = None,
        is_careful: bool = False,
        least: float = 0.0,
    ) -> None:
        """`is_careful`: a swap, or what skips less, must lead by more than one standard error.

        `least` is what a set must be worth to be worthwhile.
        """
        self.space = space
        self.num_proposals = 0
        self.reason: str | None = None
        """Why the search rests; None while it runs."""
        self._proposer = proposer
        self._score, self._worth = score, worth
        self._config = config
        self._trace: Trace = trace or NoTrace()
        self._is_careful = is_careful
        self._least = least
        self._evidence = Evidence(space, (), start, {start: 1.0})
        self._best: Trial | None = None
        self._value: float | None = None
        self._last_gain = 0
        self._pending: Units | Walk | None = None

    @property
    def best(self) -> Units:
        """The set that is worth most, as far as is known; the start before anything was scored."""
        return self._evidence.best

    @property
    def is_worthwhile(self) -> bool:
        """Whether the best set is better than to skip nothing, by what was last known."""
        is_enough = self._value is None or self._value >= self._least
        return is_enough and self._evidence.values.get(frozenset(), 0.0) * WORTHWHILE <= 1.0

    @property
    def best_trial(self) -> Trial | None:
        """The best set's score on the present windows; None until it has been taken."""
        return self._best

    def look_at(self, windows: tuple[Window, ...]) -> None:
        """Score on other windows from here on; the best set is scored on them before any other."""
        self._evidence.windows = windows
        self._best = None

    def next_step(self) -> StepKind | None:
        """What `step` would do now; None if the search rests, or has no text to look at."""
        if self.reason is not None or not self._evidence.windows:
            return None
        if self._pending is None:
            self._pending = self._proposer.propose(self._evidence)
        if self._pending is None:
            self._rest("nothing more to propose")
            return None
        return "walk" if isinstance(self._pending, Walk) else "score"

    @property
    def num_due(self) -> int:
        """Steps of the next kind that belong together: a score means nothing without the best's."""
        return 2 if self._best is None and self.next_step() == "score" else 1

    def step(self) -> Trial | None:
        """Do what `next_step` said; the set that was scored, if one was."""
        kind = self.next_step()
        assert kind is not None, "the search rests"
        pending = self._pending
        if isinstance(pending, Walk):
            self._pending = None
            start = time.perf_counter()
            pending.run()
            self._trace.write("walk", step_seconds=time.perf_counter() - start)
            return None
        if self._best is None:
            return self._try(self._evidence.best, "best so far")
        assert pending is not None
        self._pending = None
        self.num_proposals += 1
        trial = self._try(pending, self._proposer.name)
        self._rest_if_done()
        return trial

    def _try(self, units: Units, source: str) -> Trial:
        start = time.perf_counter()
        trial = self._score_until_behind(units, source)
        best = self._best
        is_better = best is None or self._leads(trial, best)
        if best is None or is_better:
            self._take_lead(trial)
        else:
            rival = best.values[len(trial.values) - 1]
            self._evidence.values[units] = min(1.0, trial.value / max(rival, _LEAST))
        skip_set = self.space.skip_set(units)
        self._trace.write(
            "proposal",
            source=source,
            attention=skip_set.attention,
            mlp=skip_set.mlp,
            matchness=trial.agreement.matchness,
            num_tokens=trial.agreement.num_tokens,
            value=trial.value,
            is_best=is_better,
            step_seconds=time.perf_counter() - start,
        )
        return trial

    def _leads(self, trial: Trial, best: Trial) -> bool:
        if len(trial.values) < len(best.values) or trial.value <= best.value:
            return False
        gives_back = len(trial.units) < len(best.units)
        if not (self._is_careful and (gives_back or trial.source == Swaps.name)):
            return True
        doubtful = trial.agreement.less_its_doubt(best.agreement)
        return self._worth(trial.units, doubtful) > best.value

    def _score_until_behind(self, units: Units, source: str) -> Trial:
        agreement, values = Agreement(0, 0), list[float]()
        for number, window in enumerate(self._evidence.windows):
            agreement += self._score(units, window)
            values.append(self._worth(units, agreement))
            is_behind = self._best is not None and values[-1] < self._best.values[number]
            if is_behind and source != HiddenStateSets.name:
                break
        return Trial(units, agreement, tuple(values), source)

    def _take_lead(self, trial: Trial) -> None:
        """Make `trial` the best, and what was relative to the old best relative to it."""
        values = self._evidence.values
        if self._best is not None:
            self._last_gain = self.num_proposals
            shrink = self._best.value / max(trial.value, _LEAST)
            for units in values:
                values[units] *= shrink
        values[trial.units] = 1.0
        self._best, self._value = trial, trial.value
        self._evidence.best = trial.units

    def _rest_if_done(self) -> None:
        is_fixed = self._config.skip_ratio is not None
        best = self._best
        assert best is not None, "a trial has been made"
        if is_fixed and best.agreement.matchness >= self._config.stop_matchness:
            self._rest(f"matchness {best.agreement.matchness:.2f} is enough")
        elif self.num_proposals - self._last_gain >= self._config.patience:
            self._rest(f"no better set in {self._config.patience} proposals")
        elif self._is_in_vain:
            self._rest(f"nothing worth skipping in {self.num_proposals} proposals")
        elif self.num_proposals >= self._config.max_proposals:
            self._rest(f"{self.num_proposals} proposals were made")

    @property
    def _is_in_vain(self) -> bool:
        is_short = self._config.time_share is not None
        return is_short and not self.is_worthwhile and self.num_proposals >= _ENOUGH_WITHOUT_SKIPS

    def _rest(self, reason: str) -> None:
        self.reason = reason
        self._trace.write("rest", reason=reason)
