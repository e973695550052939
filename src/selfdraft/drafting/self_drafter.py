"""SWIFT's drafter: the target itself, with sublayers skipped (SWIFT, section 4.2)."""

import torch

from selfdraft.decoding.loop import Round
from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.token_tree import MAX_NODES, TokenTree
from selfdraft.drafting.chain_outcome import ChainOutcome
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.view import ModelView


class SelfDrafter:
    """Drafts a chain token by token until it is unsure, with runners-up as leaves beside it.

    It ranks tokens as the target will: the same processors, the same noise.
    """

    def __init__(self, view: ModelView | None, config: DraftConfig) -> None:
        self._view = view
        self._config = config
        self.last_outcome = ChainOutcome()

    def use(self, view: ModelView | None, plan: DraftPlan | None) -> None:
        """Draft with another view from here on; None proposes nothing."""
        self._view = view

    def propose(self, state: DecodingState) -> TokenTree:
        """The drafted chain, then the siblings of its tokens, deepest last, where there is room."""
        if self._view is None:
            return TokenTree.root_only(state.token_ids[-1])
        verified_length = state.cache.length
        chain = [state.token_ids[-1]]
        siblings: list[tuple[int, int]] = []  # (token, parent)
        try:
            for _ in range(min(self._config.max_draft_steps, state.max_draft_depth)):
                candidates, confidence = self._draft_step(self._view, state, chain)
                parent = len(chain) - 1
                chain.append(candidates[0])
                siblings += [(token_id, parent) for token_id in candidates[1:]]
                if confidence < self._config.stop_confidence:
                    break
        finally:
            state.cache.rewind(verified_length)
        siblings = siblings[: MAX_NODES - len(chain)]
        return TokenTree(
            token_ids=(*chain, *(token_id for token_id, _ in siblings)),
            parents=(*range(-1, len(chain) - 1), *(parent for _, parent in siblings)),
        )

    def observe(self, state: DecodingState, outcome: Round) -> None:
        """Nothing is learned, as the paper's rule is fixed; `last_outcome` is for a search."""
        self.last_outcome = ChainOutcome.of_main_chain(outcome)

    def _draft_step(
        self, view: ModelView, state: DecodingState, chain: list[int]
    ) -> tuple[list[int], float]:
        """The best tokens after the chain, best first, and the draft's belief in the first."""
        logits = view.forward(state.cache, chain[-1:], ((0,),))
        state.cache.advance(1)
        tail = chain[1:]
        warped = state.chooser.warp(logits, state.token_ids, [tail])
        ranked = state.chooser.perturb(warped, [len(state.token_ids) + len(tail)])[0]
        best = int(ranked.argmax())
        confidence = float(torch.softmax(warped[0], dim=-1)[best])
        num_candidates = self._config.num_candidates(confidence)
        if num_candidates == 1:
            return [best], confidence
        top = ranked.topk(min(num_candidates, len(ranked)))
        return [
            t
            for t, s in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            if s > -torch.inf
        ], confidence
