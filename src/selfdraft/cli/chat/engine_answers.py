"""Answers of an engine in this process."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from selfdraft.cli.chat.answers import Outcome
from selfdraft.cli.draft_plan import describe
from selfdraft.cli.stats_table import stats_rows
from selfdraft.config import RequestOptions

if TYPE_CHECKING:
    from selfdraft.drafts import Draft
    from selfdraft.engine import Engine
    from selfdraft.generation import Generation
    from selfdraft.text.prompt import Message


class EngineAnswerer:
    """An engine, and how it is to choose tokens."""

    def __init__(self, engine: "Engine", name: str, request: RequestOptions) -> None:
        self._engine = engine
        self._name = name
        self._request = request

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    def answer(self, messages: "Sequence[Message]", draft: "Draft") -> "EngineAnswer":
        """Begin the answer to `messages`.

        Raises:
            PromptError: they do not fit the model.
        """
        generation = self._engine.stream(messages, draft=draft, **self._request)
        return EngineAnswer(generation, self._engine, draft)

    def describe(self, draft: "Draft") -> str:
        """What `draft` skips now on this model."""
        return describe(self._engine, draft)


class EngineAnswer:
    """One generation as an answer."""

    def __init__(self, generation: "Generation", engine: "Engine", draft: "Draft") -> None:
        self._generation = generation
        self._engine = engine
        self._draft = draft

    def __iter__(self) -> Iterator[str]:
        return (piece.text for piece in self._generation)

    def close(self) -> None:
        """Stop writing; the cache is freed."""
        self._generation.close()

    @property
    def outcome(self) -> Outcome:
        """What has been written so far."""
        result = self._generation.result
        return Outcome(
            text=result.text,
            finish_reason=result.finish_reason,
            num_new_tokens=result.stats.num_new_tokens,
            statistics=stats_rows(result, describe(self._engine, self._draft)),
        )
