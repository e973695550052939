"""A conversation: what was said so far, and asking for the next answer."""

from typing import TYPE_CHECKING

from selfdraft.config import RequestOptions
from selfdraft.errors import PromptError

if TYPE_CHECKING:
    from selfdraft.drafts import Draft
    from selfdraft.engine import Engine
    from selfdraft.generation import Generation, Result


class Conversation:
    """Messages of a system, a user and an assistant, and the engine that writes the last kind."""

    def __init__(
        self, engine: "Engine", request: RequestOptions, *, draft: "Draft", system: str | None
    ) -> None:
        self.engine = engine
        self.draft = draft
        self.system = system
        self.last_result: Result | None = None
        self.last_draft = draft
        self._request = request
        self._turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """Everything said so far, the system message first."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return system + self._turns

    def ask(self, text: str) -> "Generation":
        """Start the answer to `text`; hand its result to `keep`.

        Raises:
            PromptError: the conversation does not fit the model.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        try:
            return self.engine.stream(messages, draft=self.draft, **self._request)
        except PromptError as error:
            raise PromptError(f"{error}; /reset starts a new conversation") from error

    def keep(self, text: str, result: "Result") -> None:
        """Remember a question and its answer, unless it was stopped before its first word."""
        self.last_result, self.last_draft = result, self.draft
        if result.text or result.finish_reason is not None:
            self._turns.append({"role": "user", "content": text})
            self._turns.append({"role": "assistant", "content": result.text})

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self._turns.clear()
        self.last_result = None
