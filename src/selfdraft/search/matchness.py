"""Matchness: how often a draft would have written what was written (SWIFT, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.state import DecodingState
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.view import ModelView


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Tokens of a text on which drafts are compared: those from `start` up to `end`.

    The cache holds at least the rows of every token before `end - 1`.
    """

    token_ids: Sequence[int]
    cache: KVCache
    chooser: Chooser
    start: int
    end: int

    @classmethod
    def latest(cls, state: DecodingState, num_tokens: int) -> "Window | None":
        """The last `num_tokens` generated tokens of a request; None if there are fewer."""
        if state.stats.num_new_tokens < num_tokens:
            return None
        end = len(state.token_ids)
        return cls(state.token_ids, state.cache, state.chooser, end - num_tokens, end)

    @property
    def num_tokens(self) -> int:
        """Tokens that are compared (gamma)."""
        return self.end - self.start

    def before(self) -> "Window":
        """The window of as many tokens just before this one, on the same text."""
        return replace(self, start=self.start - self.num_tokens, end=self.start)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many tokens of a text a draft would have written too."""

    num_matches: float
    num_tokens: int
    hits: tuple[bool, ...] = ()
    """On which of them; empty where they were only counted."""

    @classmethod
    def of(cls, hits: tuple[bool, ...]) -> "Agreement":
        """The agreement on tokens of which `hits` says where draft and text were the same."""
        return cls(sum(hits), len(hits), hits)

    @property
    def matchness(self) -> float:
        """Share of tokens that the draft would have written too."""
        return self.num_matches / self.num_tokens

    @property
    def acceptance(self) -> float:
        """Expected rate of further tokens: the posterior mean under a uniform prior.

        A window is short, so a perfect score is no proof: 32 of 32 count as 0.97.
        """
        return (self.num_matches + 1) / (self.num_tokens + 2)

    def __add__(self, other: "Agreement") -> "Agreement":
        """On both texts together."""
        return Agreement(
            self.num_matches + other.num_matches,
            self.num_tokens + other.num_tokens,
            self.hits + other.hits,
        )

    def less_its_doubt(self, other: "Agreement") -> "Agreement":
        """With fewer matches, by the standard error of how many more there are than in `other`.

        Both are on the same text, so only tokens on which just one of them agreed are chance.
        """
        num_apart = sum(a != b for a, b in zip(self.hits, other.hits, strict=True))
        return Agreement(max(0.0, self.num_matches - num_apart**0.5), self.num_tokens)


@torch.inference_mode()
def measure_agreement(view: ModelView, windows: Sequence[Window]) -> Agreement:
    """One teacher-forced pass of `view` over each window.

    The draft is held against what was written by the rule of the request, noise and processors
    included, since that is what it is for.
    """
    return sum((Agreement.of(_hits(view, window)) for window in windows), Agreement(0, 0))


def _hits(view: ModelView, window: Window) -> tuple[bool, ...]:
    first_row, num_rows = window.start - 1, window.num_tokens
    paths = tuple(tuple(range(row + 1)) for row in range(num_rows))
    with window.cache.rewound(first_row):
        inputs = window.token_ids[first_row : window.end - 1]
        logits = view.forward(window.cache, inputs, paths)
    written = window.token_ids[window.start : window.end]
    choices = window.chooser.choose(
        logits,
        window.token_ids[: window.start],
        [written[:number] for number in range(num_rows)],
    )
    return tuple(a == b for a, b in zip(choices.tolist(), written, strict=True))
