"""A conversation: what was said so far, and asking for the next answer."""

from typing import TYPE_CHECKING

from selfdraft.cli.chat.answers import Answer, Answerer, Outcome

if TYPE_CHECKING:
    from selfdraft.drafts import Draft


class Conversation:
    """Messages of a system, a user and an assistant, and who writes those of the last kind."""

    def __init__(self, answerer: Answerer, *, draft: "Draft", system: str | None) -> None:
        self.answerer = answerer
        self.draft = draft
        self.system = system
        self.last_outcome: Outcome | None = None
        self._turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """Everything said so far, the system message first."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return system + self._turns

    def ask(self, text: str) -> Answer:
        """Start the answer to `text`; hand its outcome to `keep`.

        Raises:
            PromptError: the conversation does not fit the model.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        return self.answerer.answer(messages, self.draft)

    def keep(self, text: str, outcome: Outcome) -> None:
        """Remember a question and its answer, unless it ended before its first word."""
        if outcome.text or outcome.finish_reason is not None:
            self.last_outcome = outcome
            self._turns.append({"role": "user", "content": text})
            self._turns.append({"role": "assistant", "content": outcome.text})

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self._turns.clear()
        self.last_outcome = None
