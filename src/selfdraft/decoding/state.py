"""What one request knows while it is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.stats import Stats
from selfdraft.decoding.token_tree import Source
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.target import Target
from selfdraft.shapes import VocabLogits

# Rows a cache starts with: the prompt, the output up to a limit, and room for a tree under check.
# More are allocated when they are needed.
_MAX_PREALLOCATED_OUTPUT = 2048
_TREE_ROWS = 64

FinishReason = Literal["eos", "stop", "length", "context"]
"""Why a generation ended: the model's end token, a stop string or the sink's wish,
`max_new_tokens`, or a full context."""


@dataclass(frozen=True, slots=True, eq=False)
class NewToken:
    """One token of the output, and the logits it was chosen from."""

    token_id: int
    source: Source
    logits: VocabLogits

    @property
    def from_draft(self) -> bool:
        """Whether a draft named it before the target did."""
        return self.source != "target"


class TokenSink(Protocol):
    """Whoever takes the tokens as they are committed, one by one."""

    def push(self, token: NewToken) -> bool:
        """Take one token. True ends the generation with it."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class DecodingState:
    """The sequence so far, its cache, and when to stop.

    Between rounds the cache holds every token but the last: the last one is the root of the next
    token tree. That holds from the start, so the first new token is nothing special.
    """

    token_ids: list[int]
    cache: KVCache
    chooser: Chooser
    sink: TokenSink
    max_new_tokens: int
    eos_token_ids: frozenset[int]
    max_context: int | None
    stats: Stats = field(default_factory=Stats)
    finish_reason: FinishReason | None = None

    @classmethod
    def begin(
        cls,
        target: Target,
        token_ids: list[int],
        *,
        chooser: Chooser,
        sink: TokenSink,
        max_new_tokens: int,
        eos_token_ids: frozenset[int],
    ) -> "DecodingState":
        """A request that is ready for `speculate`: the seam for other front ends than text."""
        new_rows = min(max_new_tokens, _MAX_PREALLOCATED_OUTPUT) + _TREE_ROWS
        return cls(
            token_ids=token_ids,
            cache=target.new_cache(len(token_ids) + new_rows),
            chooser=chooser,
            sink=sink,
            max_new_tokens=max_new_tokens,
            eos_token_ids=eos_token_ids,
            max_context=target.max_context,
        )

    def __post_init__(self) -> None:
        self.stats.num_prompt_tokens = len(self.token_ids)

    @property
    def is_finished(self) -> bool:
        """Whether the last committed token ended the generation."""
        return self.finish_reason is not None

    @property
    def max_draft_depth(self) -> int:
        """Most drafted positions worth having: one token of a round is always the bonus."""
        room = self.max_new_tokens - self.stats.num_new_tokens
        if self.max_context is not None:
            room = min(room, self.max_context - len(self.token_ids))
        return room - 1

    def commit(self, tokens: Sequence[NewToken], path: Sequence[int]) -> None:
        """Append a round's tokens, up to the one that ends the generation if there is one.

        `path` are the accepted nodes from the root on, one for each token: the token was chosen
        after that node. Their rows in the cache are kept, the rest forgotten.
        """
        num_kept = 0
        for token in tokens:
            num_kept += 1
            self.token_ids.append(token.token_id)
            self.stats.num_new_tokens += 1
            self.stats.num_accepted += token.from_draft
            # The drafted chain comes first in a tree: its node at depth n is node n.
            self.stats.num_accepted_siblings += token.from_draft and path[num_kept] != num_kept
            wants_stop = self.sink.push(token)
            self.finish_reason = self._reason_to_finish(token, wants_stop=wants_stop)
            if self.is_finished:
                break
        self.cache.keep(path[:num_kept])

    def _reason_to_finish(self, token: NewToken, *, wants_stop: bool) -> FinishReason | None:
        if token.token_id in self.eos_token_ids:
            return "eos"
        if wants_stop:
            return "stop"
        if self.stats.num_new_tokens == self.max_new_tokens:
            return "length"
        if len(self.token_ids) == self.max_context:
            return "context"
        return None
