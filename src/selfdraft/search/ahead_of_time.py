"""The search ahead of time: write a little with the target, then look for its best draft on that.

The same search as while decoding, with several windows of text at once, no budget, and costs that
are measured beforehand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.loop import speculate
from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.errors import PromptError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.target import Target
from selfdraft.model.view import ModelView
from selfdraft.search.matchness import Agreement, Window, measure_agreement
from selfdraft.search.pass_costs import rising, seconds_of_rows, time_passes
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.skip_search import SkipSearch
from selfdraft.search.speed_objective import predict
from selfdraft.search.strategies.skip_space import SkipSpace, Units
from selfdraft.search.strategies.table import Strategy, new_proposer
from selfdraft.search.trace import Trace

_NUM_REPEATS = 5
_CHECKED_ROWS = (1, 2, 5, 9, 17)


@dataclass(frozen=True, slots=True)
class PassCosts:
    """Seconds of single passes, measured while nothing else runs."""

    verify: dict[int, float]
    full_step: float
    attention: float
    """What a draft step saves for each attention that it skips."""
    mlp: float
    """What a draft step saves for each MLP that it skips."""

    def verify_seconds(self, num_rows: int) -> float:
        """A verification of `num_rows` nodes, on the line between measured numbers of rows."""
        return seconds_of_rows(self.verify, num_rows)

    def draft_seconds(self, skip_set: SkipSet) -> float:
        """A draft step without the sublayers of `skip_set`."""
        saved = len(skip_set.attention) * self.attention + len(skip_set.mlp) * self.mlp
        return max(self.full_step - saved, 0.02 * self.full_step)


def record_windows(
    target: Target,
    prompts: Sequence[list[int]],
    num_tokens: int,
    eos_token_ids: frozenset[int],
    on_step: Callable[[], None] = lambda: None,
) -> list[Window]:
    """Windows of `num_tokens` on what the target writes: two on each output, if that is so long.

    The later ones of all outputs come first.

    Raises:
        PromptError: no output was long enough.
    """
    windows, earlier = list[Window](), list[Window]()
    for prompt in prompts:
        state = DecodingState.begin(
            target,
            list(prompt),
            chooser=Chooser.from_config(RequestConfig()),
            sink=_Discard(),
            max_new_tokens=2 * num_tokens,
            eos_token_ids=eos_token_ids,
        )
        for _ in speculate(target, NoDrafter(), state):
            pass
        window = Window.latest(state, num_tokens)
        if window is not None:
            windows.append(window)
            if state.stats.num_new_tokens == 2 * num_tokens:
                earlier.append(window.before())
        on_step()
    if not windows:
        raise PromptError(
            f"none of the {len(prompts)} outputs has {num_tokens} tokens to score drafts on: give "
            "prompts with longer answers, or a smaller context window"
        )
    return windows + earlier


@torch.inference_mode()
def measure_costs(target: Target, window: Window) -> PassCosts:
    """Time passes behind the text of `window`."""
    alone = target.layers.eligible_alone or target.layers.eligible
    whole = not target.layers.eligible_alone
    views = {
        "full": target.draft_view(DraftPlan()),
        "no attention": target.draft_view(DraftPlan(SkipSet(alone, alone if whole else ()))),
        "no mlp": target.draft_view(DraftPlan(SkipSet(alone if whole else (), alone))),
    }
    passes: dict[str | int, tuple[ModelView, int]] = {
        **{name: (view, 1) for name, view in views.items()},
        **{count: (target, count) for count in _CHECKED_ROWS},
    }
    first_row = window.end - 1
    token_ids = [window.token_ids[-1]] * max(_CHECKED_ROWS)
    with window.cache.rewound(first_row):
        medians = time_passes(passes, window.cache, token_ids, num_repeats=_NUM_REPEATS)
    num_alone = max(1, len(alone))
    share = 0.5 if whole else 1.0
    return PassCosts(
        verify=rising({count: medians[count] for count in _CHECKED_ROWS}),
        full_step=medians["full"],
        attention=share * max(0.0, medians["full"] - medians["no attention"]) / num_alone,
        mlp=share * max(0.0, medians["full"] - medians["no mlp"]) / num_alone,
    )


class Tuning:
    """One search ahead of time. Iterate over `run`; `best` is right whenever it is asked."""

    def __init__(
        self,
        target: Target,
        windows: Sequence[Window],
        costs: PassCosts,
        config: SearchConfig,
        *,
        strategy: Strategy = "default",
        start: SkipSet | None = None,
        trace: Trace | None = None,
    ) -> None:
        """`start` is a set from before; without it the search starts as it does online."""
        self._target = target
        self._costs = costs
        self._config = config
        self._windows = tuple(windows)
        self.space = SkipSpace(target.layers)
        known = [] if start is None else [self.space.units_of(start)]
        first = known[0] if known else self.space.spread(config.skip_ratio or 0.0)
        proposer = new_proposer(strategy, self._target, self.space, config, known, config.seed)
        self._search = SkipSearch(
            self.space,
            proposer,
            first,
            score=self._score,
            worth=self._worth,
            config=config,
            trace=trace,
            is_careful=config.skip_ratio is None,
        )
        self._search.look_at(self._windows)

    def run(self) -> Iterator["Tuning"]:
        """Yield after every step, until the search has nothing left to do."""
        while self._search.next_step() is not None:
            self._search.step()
            yield self

    @property
    def best(self) -> SkipSet:
        """The best set so far."""
        return self.space.skip_set(self._search.best)

    @property
    def agreement(self) -> Agreement:
        """How often it agrees with the target on the windows."""
        trial = self._search.best_trial
        return Agreement(0, 0) if trial is None else trial.agreement

    @property
    def predicted_speedup(self) -> float:
        """Tokens per second over plain decoding, by the measured costs; below 1 it does not pay."""
        return self.predict_speedup(self.best, self.agreement)

    def predict_speedup(self, skip_set: SkipSet, agreement: Agreement) -> float:
        """The predicted speedup of any set that agrees with the target as `agreement` says."""
        draft_seconds = self._costs.draft_seconds(skip_set)
        return predict(agreement.acceptance, draft_seconds, self._costs.verify_seconds).speedup

    def score(self, skip_set: SkipSet) -> Agreement:
        """How often any set agrees with the target on the windows."""
        return self._score(self.space.units_of(skip_set), *self._windows)

    @property
    def num_proposals(self) -> int:
        """Sets proposed and scored."""
        return self._search.num_proposals

    @property
    def reason(self) -> str | None:
        """Why it is over; None while it runs."""
        return self._search.reason

    def _score(self, units: Units, *windows: Window) -> Agreement:
        view = self._target.draft_view(DraftPlan(self.space.skip_set(units)))
        return measure_agreement(view, windows)

    def _worth(self, units: Units, agreement: Agreement) -> float:
        if self._config.skip_ratio is not None:
            return agreement.matchness
        return self.predict_speedup(self.space.skip_set(units), agreement)


class _Discard:
    def push(self, token: NewToken) -> bool:
        return False
