"""The algorithm: draft a tree, check it in one pass, keep what the target would have written.

Read this file first. `speculate` is all there is; everything else serves one of its lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.stopwatch import Stopwatch
from selfdraft.decoding.token_tree import Path, TokenTree
from selfdraft.decoding.verify import Verdict, verify
from selfdraft.model.target import Target


class Drafter(Protocol):
    """Anything that guesses what comes next. A bad guess costs time and never changes the text."""

    def propose(self, state: DecodingState) -> TokenTree:
        """A tree of tokens that may come next.

        Its root is the last token of the sequence; it is at most `state.max_draft_depth` deep.
        The cache's length is as before when this returns.
        """
        ...

    def observe(self, state: DecodingState, outcome: "Round") -> None:
        """Learn from the round that was just decoded; `state` holds its tokens already.

        Called once after every round. The cache and the text must be as before when this returns.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One round: what was proposed, what the target said about it, and what both took."""

    verdict: Verdict
    draft_seconds: float
    verify_seconds: float

    @property
    def tree(self) -> TokenTree:
        """What was proposed."""
        return self.verdict.tree

    @property
    def accepted(self) -> Path:
        """The path through the tree that the target would have written."""
        return self.verdict.path


def speculate(target: Target, drafter: Drafter, state: DecodingState) -> Iterator[Round]:
    """Yield rounds of tokens; together they are exactly what the target alone would write.

    The consumer may stop between any two rounds: nothing is left switched on.
    """
    prefill(target, state)
    while not state.is_finished:
        yield decode_round(target, drafter, state)


@torch.inference_mode()
def prefill(target: Target, state: DecodingState) -> None:
    """Fill the cache with the prompt but its last token, which is the root of the first tree."""
    with Stopwatch(target.device) as filling:
        if len(state.token_ids) > 1:
            target.prefill(state.cache, state.token_ids[:-1])
    state.stats.prefill_seconds += filling.seconds


@torch.inference_mode()
def decode_round(target: Target, drafter: Drafter, state: DecodingState) -> Round:
    """Draft, verify, keep, learn: at least one new token, the bonus, however bad the draft."""
    device, stats = target.device, state.stats
    with Stopwatch(device) as whole:
        with Stopwatch(device) as drafting:
            tree = drafter.propose(state)
        with Stopwatch(device) as verifying:
            verdict = verify(target, tree, state)
        stats.count_round(tree.depth, num_accepted=len(verdict.path) - 1)
        state.commit(verdict.tokens, verdict.path)
        outcome = Round(verdict, drafting.seconds, verifying.seconds)
        with Stopwatch(device) as learning:
            drafter.observe(state, outcome)
    stats.draft_seconds += drafting.seconds
    stats.verify_seconds += verifying.seconds
    stats.search_seconds += learning.seconds
    stats.decode_seconds += whole.seconds
    return outcome
