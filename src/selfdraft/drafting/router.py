"""The drafter of `draft="auto"`: every drafter in one tree, each as far as it pays.

One rule decides everything, in tokens (`prices`): a node joins the tree if its
path's probability exceeds the price of its row; a further step of the self-draft is taken if what
it should yield beyond its price, with what usually comes for nothing after it, exceeds what comes
for nothing now. If nothing pays, the tree is its root and the round is plain decoding.
"""

from dataclasses import dataclass
from itertools import pairwise

from selfdraft.decoding.loop import Round
from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.token_tree import MAX_NODES, TokenTree
from selfdraft.drafting.chain_outcome import ChainOutcome
from selfdraft.drafting.draft_memory import DraftMemory
from selfdraft.drafting.draft_steps import DraftStep, SelfDraft, level
from selfdraft.drafting.free.free_drafts import FreeDrafts, Place
from selfdraft.drafting.free.suffix_automaton import SuffixAutomaton
from selfdraft.drafting.prices import Prices, Rate, chain_worth
from selfdraft.drafting.tree_growth import Growth, Node, grow, main_path_first
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.view import ModelView
from selfdraft.shapes import Logits

# A draft that does not pay is tried again now and then, for its text may have come: one step, at
# most this share of the time, whose outcome stands for the rounds since.
_PROBE_SHARE = 0.01
_PROBE_WEIGHT = 8

# What a request's time is worth follows so many of its own rounds: it has few, and they differ.
_OWN_ROUNDS = 10

# How often a draft is right that was never tried: hopeful, so that it is.
_HOPE = 0.8


@dataclass(frozen=True, slots=True)
class _Proposal:
    """What a round proposed, kept until its outcome is known."""

    root_index: int
    draft_seconds: float
    """As predicted."""
    steps: tuple[DraftStep, ...]
    nodes: tuple[Node, ...]
    is_probe: bool


class Router:
    """One request's drafter. What it learns of the model goes to `memory`, which requests share."""

    def __init__(
        self,
        memory: DraftMemory,
        *,
        supports_trees: bool,
        copies_text: bool = True,
        recycles: bool = True,
        earlier: SuffixAutomaton | None = None,
    ) -> None:
        """`earlier` are texts of other requests that may be copied too."""
        self._memory = memory
        self._supports_trees = supports_trees
        self._recycles = recycles
        self._free = FreeDrafts(
            memory.calibration,
            copies_text=copies_text,
            table=memory.successors if recycles else None,
            earlier=earlier,
        )
        self._rate = Rate(memory.rate.tokens_per_plain_pass(), num_rounds=_OWN_ROUNDS)
        self._draft: SelfDraft | None = None
        self._hope = _HOPE
        self._rounds_undrafted = 0
        self._proposal: _Proposal | None = None
        self.last_outcome = ChainOutcome()

    def use(
        self, view: ModelView | None, plan: DraftPlan | None, *, expected: float = _HOPE
    ) -> None:
        """Draft with `view`, which runs `plan`, from the next round on; None: only free drafts.

        `expected` is the share of its tokens that is right, if something is known of it. Changes
        the speed only.
        """
        self._draft = SelfDraft(view, plan) if view is not None else None
        self._hope = expected

    def propose(self, state: DecodingState) -> TokenTree:
        """The tree that is worth most, as far as is known."""
        self._free.read(state.token_ids, learn_from=state.stats.num_prompt_tokens)
        max_depth = min(state.max_draft_depth, MAX_NODES - 1)
        prices = self._prices(len(state.token_ids))
        is_probe = False
        steps: tuple[DraftStep, ...] = ()
        if max_depth > 0 and self._draft is not None:
            steps = self._draft_chain(state, self._draft, prices, max_depth)
            is_probe = not steps and self._is_time_to_probe(prices)
            if is_probe:
                steps = self._draft_chain(state, self._draft, prices, 1, is_probe=True)
            self._rounds_undrafted = 0 if steps else self._rounds_undrafted + 1
        growth = Growth(self._memory, self._free, steps)
        nodes = grow(
            Node(state.token_ids[-1], -1, 0, 1.0, self._free.end, 0, "target"),
            growth.children,
            growth.join,
            prices,
            max_depth=max_depth,
            is_chain=not self._supports_trees,
        )
        tree, ordered = main_path_first(nodes)
        self._proposal = _Proposal(
            len(state.token_ids) - 1,
            len(steps) * self._draft_seconds(len(state.token_ids)),
            steps,
            tuple(ordered),
            is_probe,
        )
        return tree

    def observe(self, state: DecodingState, outcome: Round) -> None:
        """Learn what the round cost, which drafts were right, and what else the target thought."""
        proposal, self._proposal = self._proposal, None
        assert proposal is not None, "a round begins with a proposal"
        context, costs = proposal.root_index + 1, self._memory.costs
        num_rows = len(outcome.tree.token_ids)
        costs.observe_verify(num_rows, context, outcome.verify_seconds)
        plain = costs.verify_seconds(1, context)
        seconds = proposal.draft_seconds + costs.verify_seconds(num_rows, context)
        for rate in (self._rate, self._memory.rate):
            rate.count(len(outcome.accepted), seconds / plain)
        self._judge_steps(proposal, outcome)
        # Before the successors are learned, which would know the tokens that they are judged by.
        self._free.read(state.token_ids, learn_from=state.stats.num_prompt_tokens)
        if self._recycles:
            self._recycle(state, proposal.root_index, outcome)

    def _prices(self, context: int) -> Prices:
        costs = self._memory.costs
        rate = self._rate.tokens_per_plain_pass() / costs.verify_seconds(1, context)
        return Prices.at(
            costs,
            rate=rate,
            context=context,
            max_rows=MAX_NODES,
            draft_seconds=self._draft_seconds(context),
        )

    def _draft_seconds(self, context: int) -> float:
        """One step of the self-draft; 0 without one."""
        if self._draft is None:
            return 0.0
        return self._memory.costs.draft_seconds(self._draft.plan, context)

    def _draft_chain(
        self,
        state: DecodingState,
        draft: SelfDraft,
        prices: Prices,
        max_depth: int,
        *,
        is_probe: bool = False,
    ) -> tuple[DraftStep, ...]:
        """Draft until further steps should yield less than they cost and put off."""
        verified_length = state.cache.length
        place, probability = self._free.end, 1.0
        known: object = "root"
        steps: list[DraftStep] = []
        tail: list[int] = []
        calibration = self._memory.calibration
        try:
            while len(steps) < max_depth and probability > 0:
                expected = calibration.of(draft.expectation(-1, known, self._hope))
                left, num_rows = max_depth - len(steps), len(steps) + 1
                free_worth = self._free_worth(place, probability, prices, num_rows, left)
                self._memory.see_free_worth(free_worth / probability)
                usual = probability * self._memory.free_worth
                worth = chain_worth(probability, expected, prices, num_rows, left, usual)
                if worth <= free_worth and not is_probe:
                    break
                beliefs, seconds = draft.step(state, tail)
                self._memory.costs.observe_draft(draft.plan, len(state.token_ids), seconds)
                candidates = draft.candidates(beliefs, self._free.copied(place))
                first = candidates[0]
                steps.append(
                    DraftStep(
                        tuple(candidates), draft.expectation(first.token_id, known, self._hope)
                    )
                )
                probability *= calibration.of(first)
                known = level(beliefs[0].probability)
                tail.append(first.token_id)
                place = self._free.after(place, first.token_id)
        finally:
            state.cache.rewind(verified_length)
        return tuple(steps)

    def _free_worth(
        self, place: Place, probability: float, prices: Prices, num_rows: int, max_depth: int
    ) -> float:
        """What the likeliest free drafts in a row yield beyond the price of their rows."""
        worth = 0.0
        for _ in range(max_depth):
            candidates = self._free.candidates(place)
            if not candidates:
                break
            likeliest, share = max(
                ((c, self._memory.calibration.of(c)) for c in candidates), key=lambda pair: pair[1]
            )
            probability *= share
            gain = probability - prices.row(num_rows)
            if gain <= 0:
                break
            worth += gain
            num_rows += 1
            place = self._free.after(place, likeliest.token_id)
        return worth

    def _is_time_to_probe(self, prices: Prices) -> bool:
        # A probe costs its step; the rounds since the last one cost a pass each, or more.
        share = prices.draft_step / max(1, self._rounds_undrafted) / prices.verify[1]
        return share <= _PROBE_SHARE

    def _judge_steps(self, proposal: _Proposal, outcome: Round) -> None:
        choices, weight = outcome.verdict.choices, _PROBE_WEIGHT if proposal.is_probe else 1
        num_right, was_wrong = 0, False
        for index in outcome.accepted:
            chain_index = proposal.nodes[index].chain_index
            if chain_index is None or chain_index == len(proposal.steps):
                break
            step = proposal.steps[chain_index]
            was_wrong = step.candidates[0].token_id != choices[index]
            num_right += not was_wrong
            for _ in range(weight):
                self._memory.calibration.judge((*step.candidates, step.expectation), choices[index])
        self.last_outcome = ChainOutcome(num_right, was_wrong)

    def _recycle(self, state: DecodingState, root_index: int, outcome: Round) -> None:
        before = state.token_ids[root_index - 1] if root_index else -1
        path = [before, *(outcome.tree.token_ids[node] for node in outcome.accepted)]
        logits: Logits = outcome.verdict.logits[list(outcome.accepted)]
        self._memory.successors.learn([*pairwise(path)], logits)
