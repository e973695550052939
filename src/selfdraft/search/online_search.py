"""The search while an engine decodes: between rounds, on the text of the day, at a bounded price.

One `OnlineSearch` serves all requests of an engine. After each round it may do one step of a
`SkipSearch`, if its share of decode time allows it. It rests when the search has converged, and
starts again when acceptance drops (`change_point`), from the sets that were good before; if nothing
was worth skipping, after a while and from nothing.
"""

import weakref
from collections.abc import Callable, Sequence
from threading import Lock

from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.stopwatch import now
from selfdraft.drafting.chain_outcome import ChainOutcome
from selfdraft.model.draft_plan import DraftPlan, WeightBits
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.target import Target
from selfdraft.search.change_point import AcceptanceDrop
from selfdraft.search.matchness import Agreement, Window, measure_agreement
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.skip_search import WORTHWHILE, SkipSearch, Trial
from selfdraft.search.speed_objective import Costs, predict
from selfdraft.search.strategies.skip_space import SkipSpace, Units
from selfdraft.search.strategies.table import Strategy, new_proposer
from selfdraft.search.time_budget import TimeBudget
from selfdraft.search.trace import NoTrace, Trace

# Proposals scored on one window before later text is looked at, where every pass is paid for.
_SCORES_PER_WINDOW = 16

_MAX_REMEMBERED = 6

# A request that has not had a round while others had so many was given up by its reader.
_MAX_ROUNDS_OF_OTHERS = 64

# What fewer bits agree with the target, before a draft was seen (measured: 0.93).
_USUAL_ROUNDING = Agreement(28, 30)

# A search that found nothing worth skipping tries again after so many tokens, and after twice as
# many each time that it finds nothing again. Nothing of it can become worse, and where fewer bits
# agree less, the text is harder: a reason to skip nothing.
_RETRY_TOKENS = 2048
_MAX_RETRY_TOKENS = 2**15


class OnlineSearch:
    """Finds and keeps finding the plan to draft with. Safe to share between threads."""

    def __init__(
        self,
        target: Target,
        config: SearchConfig,
        costs: Costs,
        *,
        weight_bits: WeightBits = 16,
        remembered: Sequence[SkipSet] = (),
        on_rest: Callable[[DraftPlan, Trial, int], None] = lambda plan, trial, num_proposals: None,
        trace: Trace | None = None,
    ) -> None:
        """Begin with the first of `remembered`; without one, with a set spread evenly, or none.

        Drafts run with `weight_bits`; `on_rest` gets the plan, its last score and the number of
        proposals whenever the search has converged.
        """
        self._target = target
        self._config = config
        self._costs = costs
        self._weight_bits: WeightBits = weight_bits
        self._on_rest = on_rest
        self._trace: Trace = trace or NoTrace()
        self._space = SkipSpace(target.layers)
        self._budget = TimeBudget(config.time_share)
        self._drop = AcceptanceDrop()
        self._lock = Lock()
        self._owner: weakref.ref[DecodingState] | None = None
        self._rounds_of_others = 0
        self._context = 0
        self._window_end = 0
        self._num_scores = 0
        self._tokens_at_rest = 0
        self._retry_tokens = _RETRY_TOKENS
        self._num_tokens = 0
        self._num_starts = 0
        self._num_earlier_proposals = 0
        self._remembered = [self._space.units_of(skip_set) for skip_set in remembered]
        start = self._remembered[0] if self._remembered else self._space.spread(self._start_ratio)
        self._search = self._new_search(start)
        # A remembered set was good before, and fewer bits usually are: they are used until the text
        # says otherwise.
        is_promising = self._remembered or self._is_fixed or weight_bits < 16
        self._plan = self._plan_of(start) if is_promising else None
        self._rounding = _USUAL_ROUNDING

    @property
    def plan(self) -> DraftPlan | None:
        """What to draft with now; None if no draft is known to pay."""
        return self._plan

    @property
    def is_resting(self) -> bool:
        """Whether the search has converged, for this text."""
        return self._search.reason is not None

    @property
    def num_proposals(self) -> int:
        """Sets that were proposed and scored so far."""
        return self._num_earlier_proposals + self._search.num_proposals

    @property
    def num_starts(self) -> int:
        """How often the search began: 1, and every restart."""
        return self._num_starts

    @property
    def share_spent(self) -> float:
        """Search seconds over decode seconds without them, since the engine was made."""
        decoded = self._budget.decode_seconds
        return self._budget.spent_seconds / decoded if decoded else 0.0

    def after_round(
        self, state: DecodingState, *, num_tokens: int, seconds: float, drafted: ChainOutcome
    ) -> None:
        """Take note of a round of `seconds`, and do at most one step of the search.

        `drafted` is what became of the plan's draft. If another request is at it, this one goes on
        at once.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._budget.count_decoding(seconds)
            self._num_tokens += num_tokens
            self._context = state.cache.length
            if self._config.is_adaptive:
                self._watch(drafted)
            if not self.is_resting and self._look_at(state):
                self._step(state)
        finally:
            self._lock.release()

    def _step(self, state: DecodingState) -> None:
        kind = self._search.next_step()
        if kind is not None and self._budget.allows(kind, self._search.num_due):
            start = now(self._target.device)
            trial = self._search.step()
            self._budget.charge(kind, now(self._target.device) - start)
            if trial is not None:
                self._num_scores += 1
            self._choose_plan()
        if self.is_resting:
            self._rest()

    def _look_at(self, state: DecodingState) -> bool:
        """Move to the latest tokens, where that is due and possible.

        False if another request is searched on: scores of two texts would not compare, and while
        that request decodes, in a thread of its own, its cache is not to be touched.
        """
        owner = self._owner() if self._owner is not None else None
        self._rounds_of_others = 0 if owner is state else self._rounds_of_others + 1
        if owner is not state:
            is_at_it = owner is not None and not owner.is_finished
            if is_at_it and self._rounds_of_others <= _MAX_ROUNDS_OF_OTHERS:
                return False
            self._search.look_at(())
            self._owner, self._window_end = weakref.ref(state), 0
            self._rounds_of_others = 0
        num_fresh = len(state.token_ids) - self._window_end
        is_enough = self._config.time_share is None or self._num_scores >= _SCORES_PER_WINDOW
        if self._window_end and not (is_enough and num_fresh >= self._config.context_window):
            return True
        window = Window.latest(state, self._config.context_window)
        if window is not None:
            self._trace.write("window", num_tokens=window.num_tokens, position=window.start)
            self._search.look_at((window,))
            self._window_end, self._num_scores = window.end, 0
        return True

    def _choose_plan(self) -> None:
        trial = self._search.best_trial
        if trial is None:
            return
        # Whether fewer bits pay is seen in every round, by who drafts.
        pays = self._is_fixed or self._weight_bits < 16 or trial.value >= WORTHWHILE
        plan = self._plan_of(trial.units) if pays else None
        if plan != self._plan:
            self._use(plan, trial.value)

    def _use(self, plan: DraftPlan | None, value: float | None = None) -> None:
        self._plan = plan
        self._drop.restart()
        skip_set = SkipSet() if plan is None else plan.skip_set
        self._trace.write(
            "switch",
            is_drafting=plan is not None,
            attention=skip_set.attention,
            mlp=skip_set.mlp,
            weight_bits=self._weight_bits,
            value=value,
        )

    def _watch(self, drafted: ChainOutcome) -> None:
        """Start again where the draft has become worse, or what it skips is worth nothing.

        The latter after a while: hard text is a reason to skip less.
        """
        skips = self._plan is not None and self._plan.skip_set.num_skipped > 0
        if skips and self._search.is_worthwhile:
            is_due = self._drop.observe(drafted.num_right, was_refused=drafted.was_wrong)
        else:
            waited = self._num_tokens - self._tokens_at_rest
            is_due = self.is_resting and waited >= self._retry_tokens
        if not skips:
            # What fewer bits alone agree; a search without them never asks.
            self._rounding = Agreement(
                self._rounding.num_matches + drafted.num_right,
                self._rounding.num_tokens + drafted.num_right + drafted.was_wrong,
            )
        if is_due:
            self._trace.write("restart", num_tokens=self._num_tokens)
            self._drop.restart()
            self._num_earlier_proposals += self._search.num_proposals
            start = self._space.spread(self._start_ratio)
            if self._search.is_worthwhile:
                start = self._search.best
                self._remember(start)
                self._retry_tokens = _RETRY_TOKENS
            else:
                self._retry_tokens = min(2 * self._retry_tokens, _MAX_RETRY_TOKENS)
            self._search = self._new_search(start)
            self._owner = None

    def _rest(self) -> None:
        self._tokens_at_rest = self._num_tokens
        self._owner = None
        trial = self._search.best_trial
        if not self._search.is_worthwhile:
            # What leads by luck may soon be worse.
            plan = self._plan_of(frozenset()) if self._weight_bits < 16 else None
            if plan != self._plan:
                self._use(plan)
        elif trial is not None and self._plan is not None:
            self._remember(trial.units)
            self._on_rest(self._plan, trial, self.num_proposals)
        self._search.look_at(())  # lets go of the request's cache

    def _remember(self, units: Units) -> None:
        others = [known for known in self._remembered if known != units]
        self._remembered = [units, *others][:_MAX_REMEMBERED]

    def _new_search(self, start: Units) -> SkipSearch:
        self._num_starts += 1
        strategy: Strategy = "default" if self._config.bayes_interval is None else "paper"
        seed = self._config.seed + self._num_starts
        # The set that a search begins with where nothing is known tells what the others are worth.
        known = [*self._remembered, self._space.spread(self._start_ratio)]
        proposer = new_proposer(strategy, self._target, self._space, self._config, known, seed)
        return SkipSearch(
            self._space,
            proposer,
            start,
            score=self._score,
            worth=self._worth,
            config=self._config,
            trace=self._trace,
            # Without fewer bits a draft has nothing else to be worth anything by.
            least=0.0 if self._is_fixed or self._weight_bits < 16 else WORTHWHILE,
        )

    def _score(self, units: Units, window: Window) -> Agreement:
        """By the target's own weights: kernels for few bits are slow for the rows of a window."""
        view = self._target.draft_view(DraftPlan(self._space.skip_set(units)))
        return measure_agreement(view, (window,))

    def _worth(self, units: Units, agreement: Agreement) -> float:
        if self._is_fixed:
            return agreement.matchness
        context = self._context
        kept = self._rounding.acceptance if self._weight_bits < 16 else 1.0
        return predict(
            agreement.acceptance * kept,
            self._costs.draft_seconds(self._plan_of(units), context),
            lambda num_rows: self._costs.verify_seconds(num_rows, context),
        ).speedup

    def _plan_of(self, units: Units) -> DraftPlan:
        return DraftPlan(self._space.skip_set(units), self._weight_bits)

    @property
    def _is_fixed(self) -> bool:
        return self._config.skip_ratio is not None

    @property
    def _start_ratio(self) -> float:
        return self._config.skip_ratio or 0.0
