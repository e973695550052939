"""Decoding one request by hand, with everything about it on record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor

from selfdraft import DraftConfig, Engine
from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.loop import Round, speculate
from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.decoding.token_tree import TokenTree


@dataclass
class Recorder:
    """A sink that keeps every token, and stops after the one at `stop_after` if that is given."""

    stop_after: int | None = None
    tokens: list[NewToken] = field(default_factory=list)

    def push(self, token: NewToken) -> bool:
        self.tokens.append(token)
        return len(self.tokens) == self.stop_after

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.token_id for token in self.tokens)

    @property
    def logits(self) -> Tensor:
        return torch.stack([token.logits for token in self.tokens])


class Script(LogitsProcessor):
    """Lets the model write nothing but a given continuation of a prompt, whatever it prefers."""

    def __init__(self, prompt_length: int, token_ids: Sequence[int]) -> None:
        self._prompt_length = prompt_length
        self._token_ids = tuple(token_ids)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        index = input_ids.shape[1] - self._prompt_length
        allowed = self._token_ids[min(index, len(self._token_ids) - 1)]
        forced = torch.full_like(scores, -torch.inf)
        forced[:, allowed] = scores[:, allowed]
        return forced


class PlannedDrafter:
    """Proposes the given trees one after the other, then nothing; each is put on the real root."""

    def __init__(self, *trees: tuple[Sequence[int], Sequence[int]]) -> None:
        self._trees = list(trees)

    def observe(self, state: DecodingState, outcome: Round) -> None:
        pass

    def propose(self, state: DecodingState) -> TokenTree:
        if not self._trees:
            return TokenTree.root_only(state.token_ids[-1])
        token_ids, parents = self._trees.pop(0)
        return TokenTree((state.token_ids[-1], *token_ids), (-1, *parents))


def chain_after_root(token_ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """A tree for `PlannedDrafter`: one token after the other."""
    return token_ids, range(len(token_ids))


def new_state(
    engine: Engine,
    prompt: Sequence[int],
    sink: Recorder,
    *,
    processors: Sequence[LogitsProcessor] = (),
    **options: object,
) -> DecodingState:
    """A request on `engine` that reports to `sink`."""
    config = RequestConfig(**options)
    return DecodingState.begin(
        engine.target,
        list(prompt),
        chooser=Chooser.from_config(config, processors),
        sink=sink,
        max_new_tokens=config.max_new_tokens,
        eos_token_ids=engine.eos_token_ids,
    )


@dataclass
class Run:
    """A finished generation."""

    sink: Recorder
    state: DecodingState
    rounds: list[Round]


def decode(
    engine: Engine,
    prompt: Sequence[int],
    draft: DraftConfig | str | None = None,
    *,
    stop_after: int | None = None,
    **options: object,
) -> Run:
    """Decode to the end and check, between all rounds, that the cache lacks just the last token."""
    sink = Recorder(stop_after)
    state = new_state(engine, prompt, sink, **options)
    rounds = []
    for finished_round in speculate(engine.target, engine.drafter(draft), state):
        rounds.append(finished_round)
        assert state.cache.length == len(state.token_ids) - 1
    return Run(sink, state, rounds)
