"""Steps of the self-draft, each with the candidates that it gives and how sure it is of them."""

import time
from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass

import torch

from selfdraft.decoding.state import DecodingState
from selfdraft.drafting.calibration import Candidate
from selfdraft.drafting.free.free_drafts import Copy
from selfdraft.model.view import ModelView

_NUM_CANDIDATES = 4

# Beliefs that are told apart; a draft that skips half is often sure and seldom right, so each level
# is calibrated by itself.
_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.995)


@dataclass(frozen=True, slots=True)
class Belief:
    """A token and the draft's own probability for it."""

    token_id: int
    probability: float


@dataclass(frozen=True, slots=True)
class DraftStep:
    """One step: what may come next, best first, and what was asked of the step beforehand."""

    candidates: tuple[Candidate, ...]
    expectation: Candidate
    """The step's first token, by what was known before the step was taken."""


class SelfDraft:
    """A view of the model that drafts one token after the other, and the plan that it runs."""

    def __init__(self, view: ModelView, plan: Hashable) -> None:
        self.plan = plan
        self._view = view

    def step(self, state: DecodingState, tail: list[int]) -> tuple[list[Belief], float]:
        """The best tokens after the text and `tail`, and the seconds it took.

        The cache holds all of them but the last when this begins, and all when it ends. Tokens are
        ranked as the target will rank them: with the same processors and the same noise. So the
        belief is that in the perturbed ranking: without noise it is the draft's probability, with
        noise it says how far the choice is from being another.
        """
        start = time.perf_counter()
        last = tail[-1] if tail else state.token_ids[-1]
        logits = self._view.forward(state.cache, [last], ((0,),))
        state.cache.advance(1)
        warped = state.chooser.warp(logits, state.token_ids, [tail])
        ranked = state.chooser.perturb(warped, [len(state.token_ids) + len(tail)])[0]
        best = torch.softmax(ranked, dim=-1).topk(min(_NUM_CANDIDATES, len(ranked)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)  # the step's sync
        beliefs = [Belief(t, p) for t, p in pairs if p > 0] or [Belief(int(ranked.argmax()), 0.0)]
        return beliefs, time.perf_counter() - start

    def candidates(self, beliefs: list[Belief], copied: Copy | None) -> list[Candidate]:
        """The drafted token, its runners-up, and what a copy of a text has instead.

        Where the two agree they are right more often, where they do not, less; so that is part of
        the kind.
        """
        agrees = _agreement(beliefs[0].token_id, copied)
        family: tuple[object, ...] = ("self", level(beliefs[0].probability), agrees)
        prior = beliefs[0].probability
        first = Candidate(beliefs[0].token_id, (self.plan, *family), prior, family)
        found = [first]
        for rank, belief in enumerate(beliefs[1:], start=1):
            agrees = _agreement(belief.token_id, copied)
            family = ("sibling", rank, level(belief.probability), agrees)
            prior = belief.probability
            found.append(Candidate(belief.token_id, (self.plan, *family), prior, family))
        if copied is not None and all(copied.token_id != c.token_id for c in found):
            kind = "contested earlier copy" if copied.is_earlier else "contested copy"
            key = (kind, min(copied.length, 8), level(beliefs[0].probability))
            found.append(Candidate(copied.token_id, key, prior=0.1, source=copied.source))
        return found

    def expectation(self, token_id: int, known: Hashable, prior: float) -> Candidate:
        """The drafted token as it was expected, by `known`, before it was drafted."""
        return Candidate(token_id, (self.plan, "step", known), prior, ("step", known))


def level(probability: float) -> int:
    """The bucket of a belief."""
    return bisect_right(_LEVELS, probability)


def _agreement(token_id: int, copied: Copy | None) -> int:
    """0: nothing worth mentioning is copied; 1: the copy has another token; 2: it has the same.

    3 and 4 are 1 and 2 for a copy of an earlier text, which is evidence of another weight.
    """
    if copied is None or copied.length < 2:
        return 0
    return (2 if copied.token_id == token_id else 1) + 2 * copied.is_earlier
