"""Answers of a server that `selfdraft serve` started, over its chat completions."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from selfdraft.cli.chat.answers import Outcome
from selfdraft.cli.chat.server_client import ServerClient
from selfdraft.config import RequestConfig, RequestOptions
from selfdraft.errors import ServerError
from selfdraft.model.draft_plan import DraftPlan

if TYPE_CHECKING:
    from selfdraft.decoding.state import FinishReason
    from selfdraft.drafts import Draft
    from selfdraft.text.prompt import Message

# By the server's name of each: its section, how it is shown, and what it is called here.
_STATISTICS = (
    ("usage", "prompt_tokens", "{}", "prompt tokens"),
    ("usage", "completion_tokens", "{}", "new tokens"),
    ("metrics", "queue_seconds", "{:.2f} s", "queue"),
    ("metrics", "prefill_seconds", "{:.2f} s", "prefill"),
    ("metrics", "time_to_first_token_seconds", "{:.2f} s", "first token after"),
    ("metrics", "decode_seconds", "{:.2f} s", "decode"),
    ("speculative_decoding", "num_draft_tokens", "{}", "drafted"),
    ("speculative_decoding", "num_accepted_tokens", "{}", "accepted"),
    ("speculative_decoding", "draft_acceptance_rate", "{:.2f}", "acceptance rate"),
    ("speculative_decoding", "mean_acceptance_length", "{:.2f}", "mean accepted length M"),
    ("metrics", "tokens_per_second", "{:.1f} tokens/s", "speed"),
)


class ServerAnswerer:
    """A model of a server, and how it is to choose tokens."""

    def __init__(self, client: ServerClient, model: str | None, request: RequestOptions) -> None:
        """Without a `model` it is the server's first, which is asked for when it is needed."""
        self._client = client
        self._model = model
        self._config = RequestConfig(**request)

    @property
    def name(self) -> str:
        """The model's name; the server's address while that is not known."""
        return self._model or self._client.url

    def answer(self, messages: "Sequence[Message]", draft: "Draft") -> "ServerAnswer":
        """The answer to `messages`; the server is asked when its first piece is."""
        return ServerAnswer(self._events(messages, draft), self._config.max_new_tokens, draft)

    def describe(self, draft: "Draft") -> str:
        """What `draft` is on the server at the moment.

        Raises:
            SelfdraftError: the server does not say.
        """
        if draft == "off":
            return "off: plain decoding"
        match self._client.get("/v1/draft"):
            case {"draft": default, "plan": {"weight_bits": bits} as layers} if default == draft:
                plan = DraftPlan.from_dict({"skip_set": layers, "weight_bits": bits})
                return f"{draft}: {plan.describe()}"
        return f"{draft}: as the server at {self._client.url} has it"

    def _events(
        self, messages: "Sequence[Message]", draft: "Draft"
    ) -> Generator[dict[str, Any], None, None]:
        if self._model is None:
            self._model = self._first_model()
        body = {
            "model": self._model,
            "messages": list(messages),
            "draft": draft,
            "stream": True,
            "stream_options": {"include_usage": True, "include_sources": True},
            **_sampling_fields(self._config),
        }
        yield from self._client.events("/v1/chat/completions", body)

    def _first_model(self) -> str:
        match self._client.get("/v1/models"):
            case {"data": [{"id": str(name)}, *_]}:
                return name
        raise ServerError(f"the server at {self._client.url} names no model: give MODEL")


class ServerAnswer:
    """One answer of a server."""

    def __init__(
        self, events: Generator[dict[str, Any], None, None], max_tokens: int, draft: "Draft"
    ) -> None:
        self._events = events
        self._max_tokens = max_tokens
        self._draft = draft
        self._texts: list[str] = []
        self._num_tokens = 0
        self._finish_reason: str | None = None
        self._sections: dict[str, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[str]:
        for event in self._events:
            self._read_counts(event)
            match event:
                case {"choices": [{"delta": {"content": str(text)}}, *_]} if text:
                    self._texts.append(text)
                    yield text

    def close(self) -> None:
        """Stop writing: the connection is closed."""
        self._events.close()

    @property
    def outcome(self) -> Outcome:
        """What has been written so far."""
        return Outcome(
            text="".join(self._texts),
            finish_reason=self._ending,
            num_new_tokens=self._num_tokens,
            statistics=(
                *self._statistics(),
                ("draft", str(self._draft)),
                ("ended by", self._finish_reason or "interrupted"),
            ),
        )

    def _read_counts(self, event: dict[str, Any]) -> None:
        """Take what is said about the answer, in whichever events it is said."""
        match event:
            case {"choices": [{"finish_reason": str(reason)}, *_]}:
                self._finish_reason = reason
        match event:
            case {"sources": list(tokens)}:
                self._num_tokens += len(tokens)
        match event:
            case {"usage": {"completion_tokens": int(num_tokens)} as usage}:
                self._num_tokens = num_tokens
                self._sections["usage"] = usage
        match event:
            case {"metrics": dict(metrics)}:
                self._sections["metrics"] = metrics
                self._sections |= {k: v for k, v in metrics.items() if isinstance(v, dict)}

    @property
    def _ending(self) -> "FinishReason | None":
        """The reason in our words; theirs for a cut does not say what was full."""
        if self._finish_reason == "length":
            return "length" if self._num_tokens >= self._max_tokens else "context"
        return None if self._finish_reason is None else "stop"

    def _statistics(self) -> Iterator[tuple[str, str]]:
        for section, key, form, name in _STATISTICS:
            value = self._sections.get(section, {}).get(key)
            if isinstance(value, int | float):
                yield name, form.format(value)


def _sampling_fields(config: RequestConfig) -> dict[str, Any]:
    """The request's fields. What is off is left out."""
    fields: dict[str, Any] = {
        "max_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "seed": config.seed,
    }
    filters = {
        "top_p": (config.top_p, 1.0),
        "top_k": (config.top_k, 0),
        "min_p": (config.min_p, 0.0),
        "repetition_penalty": (config.repetition_penalty, 1.0),
        "stop": (list(config.stop_strings), []),
    }
    return fields | {name: value for name, (value, off) in filters.items() if value != off}
