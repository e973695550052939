"""One request: what it asks of the engine, and the events that come back.

Two threads share a `Job`: the event loop that made it and reads its events, and the worker, which
delivers them. It is cancelled by a flag that the worker sees before each round.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, TypeAlias

from transformers import LogitsProcessor

from selfdraft.config import RequestOptions
from selfdraft.drafts import Draft
from selfdraft.server.errors import ApiError
from selfdraft.text.prompt import EncodedPrompt
from selfdraft.text.text_stream import Piece, TokenLogprob

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One text to write: one choice of a request."""

    prompt: EncodedPrompt
    draft: Draft
    options: RequestOptions
    processors: tuple[LogitsProcessor, ...] = ()


@dataclass(frozen=True, slots=True)
class Speculation:
    """What the drafts of a request were worth, in vLLM's words."""

    num_drafts: int
    """Rounds that drafted at least one position."""
    num_draft_tokens: int
    num_accepted_tokens: int
    num_accepted_per_position: tuple[int, ...]

    def as_dict(self) -> dict[str, object]:
        """The counts and the rates, ready for JSON."""
        drafts, drafted = self.num_drafts, self.num_draft_tokens
        accepted = self.num_accepted_tokens
        return {
            "num_drafts": drafts,
            "num_draft_tokens": drafted,
            "num_accepted_tokens": accepted,
            "draft_acceptance_rate": accepted / drafted if drafted else 0.0,
            "mean_acceptance_length": 1.0 + (accepted / drafts if drafts else 0.0),
            "acceptance_per_position": [count / drafts for count in self.num_accepted_per_position],
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """What a whole request took, over all its choices."""

    num_prompt_tokens: int
    num_new_tokens: int
    first_token_seconds: float
    """From the request to its first token."""
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    """Of this request's own rounds, not of others' between them."""
    speculation: Speculation

    def usage(self) -> dict[str, int]:
        """OpenAI's `usage`."""
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": self.num_new_tokens,
            "total_tokens": self.num_prompt_tokens + self.num_new_tokens,
        }

    def metrics(self) -> dict[str, object]:
        """What OpenAI's shape has no place for."""
        seconds = self.decode_seconds
        return {
            "time_to_first_token_seconds": self.first_token_seconds,
            "queue_seconds": self.queue_seconds,
            "prefill_seconds": self.prefill_seconds,
            "decode_seconds": seconds,
            "tokens_per_second": self.num_new_tokens / seconds if seconds else 0.0,
            "speculative_decoding": self.speculation.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class ShownPiece:
    """A piece of text, with the log-probabilities of its tokens if they were asked for."""

    piece: Piece
    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What one round wrote of a choice; `finish_reason` if it was the last."""

    choice: int
    pieces: Sequence[ShownPiece]
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Ended:
    """Every choice is written."""

    summary: Summary


Event: TypeAlias = Written | Ended | ApiError


@dataclass(slots=True, eq=False)
class Job:
    """One request between its submission and its last event."""

    request_id: str
    asks: Sequence[Ask]
    num_prompt_tokens: int
    loop: asyncio.AbstractEventLoop
    submitted: float = field(default_factory=perf_counter)
    is_cancelled: bool = False
    _events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    def deliver(self, event: Event) -> None:
        """Hand an event to the reader, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop has ended, and the reader with it
            self.is_cancelled = True

    async def next_event(self) -> Written | Ended:
        """The next event.

        Raises:
            ApiError: the request has failed; nothing follows.
        """
        event = await self._events.get()
        if isinstance(event, ApiError):
            raise event
        return event

    async def events(self) -> AsyncIterator[Written | Ended]:
        """Every event, `Ended` last.

        Raises:
            ApiError: the request has failed.
        """
        while True:
            event = await self.next_event()
            yield event
            if isinstance(event, Ended):
                return
