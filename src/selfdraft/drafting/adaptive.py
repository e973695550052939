"""Where search meets decoding: a drafter whose plan is looked for while it drafts."""

from collections.abc import Callable
from typing import Protocol

from selfdraft.decoding.loop import Drafter, Round
from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.token_tree import TokenTree
from selfdraft.drafting.chain_outcome import ChainOutcome
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.view import ModelView


class PlanSource(Protocol):
    """Whoever looks for the plan that drafts best, a little after every round."""

    @property
    def plan(self) -> DraftPlan | None:
        """The plan that is best as far as is known; None if drafts with a model do not pay."""
        ...

    def after_round(
        self, state: DecodingState, *, num_tokens: int, seconds: float, drafted: ChainOutcome
    ) -> None:
        """Learn from a round that wrote `num_tokens` in `seconds`, and perhaps take a step."""
        ...


class PlanDrafter(Drafter, Protocol):
    """A drafter that can be given another plan between two rounds."""

    def use(self, view: ModelView | None, plan: DraftPlan | None) -> None:
        """Draft with `view`, which runs `plan`, from here on; None drafts without a model."""
        ...

    @property
    def last_outcome(self) -> ChainOutcome:
        """What became of what the plan drafted in the round that was observed last."""
        ...


class AdaptiveDrafter:
    """Drafts with the plan of the day, and gives the search its turn after every round.

    One for each request; the search is shared by all requests of an engine. What the search does
    cannot change a token: it reads the text, and chooses who drafts.
    """

    def __init__(
        self,
        drafter: PlanDrafter,
        search: PlanSource,
        view_of: Callable[[DraftPlan], ModelView],
    ) -> None:
        self._drafter = drafter
        self._search = search
        self._view_of = view_of
        self._plan: DraftPlan | None = None

    @property
    def last_outcome(self) -> ChainOutcome:
        """What became of what the plan drafted in the round that was observed last."""
        return self._drafter.last_outcome

    def propose(self, state: DecodingState) -> TokenTree:
        """The tree of the drafter, with the plan that is best as far as is known."""
        plan = self._search.plan
        if plan != self._plan:
            self._drafter.use(None if plan is None else self._view_of(plan), plan)
            self._plan = plan
        return self._drafter.propose(state)

    def observe(self, state: DecodingState, outcome: Round) -> None:
        """Let the drafter learn, then the search."""
        self._drafter.observe(state, outcome)
        self._search.after_round(
            state,
            num_tokens=len(outcome.accepted),
            seconds=outcome.draft_seconds + outcome.verify_seconds,
            drafted=self._drafter.last_outcome,
        )
