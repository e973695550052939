"""What chat and completions have in common of OpenAI's shapes: the envelope, chunks, usage."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from time import time
from typing import Any
from uuid import uuid4

from selfdraft.server.job import FinishReason, ShownPiece, Summary, Written
from selfdraft.server.protocol import GenerationBody

_LOWEST_LOGPROB = -9999.0
"""What OpenAI writes for a probability of 0: JSON has no infinity."""


class AnswerShape(ABC):
    """How the events of one request look to its client."""

    id_prefix: str
    object_name: str
    chunk_object_name: str

    def __init__(self, body: GenerationBody, model: str, num_choices: int) -> None:
        options = body.stream_options
        self._has_usage = options is not None and options.include_usage
        self._has_sources = options is not None and options.include_sources
        self._num_choices = num_choices
        self._opened: set[int] = set()
        self._envelope = {
            "id": f"{self.id_prefix}-{uuid4().hex}",
            "created": int(time()),
            "model": model,
            "system_fingerprint": f"selfdraft-{version('selfdraft')}",
        }

    def chunks(self, event: Written) -> list[dict[str, Any]]:
        """What a round wrote, as the chunks of a stream: one for each piece of text."""
        chunks = []
        if event.choice not in self._opened:
            self._opened.add(event.choice)
            chunks += [self._chunk(choice) for choice in self._opening(event.choice)]
        for shown in event.pieces:
            if not shown.piece.text and not shown.logprobs and not self._has_sources:
                continue
            chunk = self._chunk(self._part(event.choice, shown))
            if self._has_sources:
                tokens = zip(shown.piece.token_ids, shown.piece.sources, strict=True)
                chunk["sources"] = [{"token_id": t, "source": source} for t, source in tokens]
            chunks.append(chunk)
        if event.finish_reason is not None:
            chunks.append(self._chunk(self._closing(event.choice, event.finish_reason)))
        return chunks

    def last_chunks(self, summary: Summary) -> list[dict[str, Any]]:
        """What follows when every choice is written."""
        if not self._has_usage:
            return []
        chunk = self._chunk(None)
        return [chunk | {"usage": summary.usage(), "metrics": summary.metrics()}]

    def whole(self, events: Sequence[Written], summary: Summary) -> dict[str, Any]:
        """The answer in one piece."""
        choices = []
        for index in range(self._num_choices):
            own = [event for event in events if event.choice == index]
            shown = [piece for event in own for piece in event.pieces]
            reason = own[-1].finish_reason
            assert reason is not None, "every choice has ended"
            choices.append(self._choice(index, shown, reason))
        return {
            **self._envelope,
            "object": self.object_name,
            "choices": choices,
            "usage": summary.usage(),
            "metrics": summary.metrics(),
        }

    def _chunk(self, choice: dict[str, Any] | None) -> dict[str, Any]:
        chunk = {
            **self._envelope,
            "object": self.chunk_object_name,
            "choices": [] if choice is None else [choice],
        }
        return chunk | {"usage": None} if self._has_usage else chunk

    def _opening(self, index: int) -> list[dict[str, Any]]:
        """What comes before a choice's first piece."""
        return []

    @abstractmethod
    def _part(self, index: int, shown: ShownPiece) -> dict[str, Any]:
        """One piece of a choice."""

    @abstractmethod
    def _closing(self, index: int, reason: FinishReason) -> dict[str, Any]:
        """The end of a choice."""

    @abstractmethod
    def _choice(
        self, index: int, shown: Sequence[ShownPiece], reason: FinishReason
    ) -> dict[str, Any]:
        """A choice in one piece."""


def finite(logprob: float) -> float:
    """`logprob`, or the lowest number that OpenAI uses."""
    return max(logprob, _LOWEST_LOGPROB)


def text_of(shown: Sequence[ShownPiece]) -> str:
    """The text of the pieces."""
    return "".join(piece.piece.text for piece in shown)
