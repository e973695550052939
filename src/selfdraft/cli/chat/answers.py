"""What a conversation needs of whoever answers: an engine in this process, or a server."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from selfdraft.decoding.state import FinishReason
    from selfdraft.drafts import Draft
    from selfdraft.text.prompt import Message


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of an answer so far."""

    text: str
    finish_reason: "FinishReason | None"
    """None while it is written, and if it was stopped."""
    num_new_tokens: int
    statistics: tuple[tuple[str, str], ...]
    """Names and values, for the reader."""


class Answer(Protocol):
    """An answer that is being written. Iterate over it for the pieces of its text."""

    def __iter__(self) -> Iterator[str]:
        """The pieces; stop whenever you like.

        Raises:
            SelfdraftError: it cannot be gone on with.
        """
        ...

    def close(self) -> None:
        """Stop writing."""
        ...

    @property
    def outcome(self) -> Outcome:
        """What has been written so far."""
        ...


class Answerer(Protocol):
    """Whoever answers."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    def answer(self, messages: "Sequence[Message]", draft: "Draft") -> Answer:
        """Begin the answer to `messages`.

        Raises:
            PromptError: they do not fit the model.
        """
        ...

    def describe(self, draft: "Draft") -> str:
        """What `draft` is at the moment, in words."""
        ...
