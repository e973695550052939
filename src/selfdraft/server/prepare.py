"""From a body to what the engine takes: prompts encoded, limits checked, processors made.

Runs in a thread of the pool and not in the worker: what is wrong with a request is said before it
waits for its turn.
"""

import secrets
from threading import Lock
from typing import TYPE_CHECKING

from transformers import LogitsProcessor

from selfdraft.config import RequestOptions, require
from selfdraft.drafts import Draft
from selfdraft.engine import Engine
from selfdraft.errors import ConfigError, PromptError
from selfdraft.server.errors import invalid, too_long
from selfdraft.server.job import Ask
from selfdraft.server.protocol import (
    MAX_CHOICES,
    ChatBody,
    CompletionBody,
    GenerationBody,
    JsonObjectFormat,
    JsonSchemaFormat,
)
from selfdraft.server.settings import ServerSettings
from selfdraft.text.prompt import EncodedPrompt, Prompt, encode_prompt, require_fits, turn_end_ids

if TYPE_CHECKING:
    from selfdraft.text.grammar import GrammarProcessor, Grammars

_CHAT_TOKENS = 1024
"""Most tokens of an answer whose length the client did not say."""
_COMPLETION_TOKENS = 16
"""The same for a completion, as OpenAI has it."""

_NUM_SEEDS = 2**64


class Preparer:
    """What requests become on one engine."""

    def __init__(self, engine: Engine, settings: ServerSettings) -> None:
        """Raise `ConfigError` if the settings do not fit the model."""
        self.engine = engine
        self._settings = settings
        self._grammars: Grammars | None = None
        self._lock = Lock()
        own, asked = engine.target.max_context, settings.max_model_len
        require(
            own is None or asked is None or asked <= own,
            f"max_model_len is {asked}, and the model's context is {own}: give no more than that",
        )
        self.max_model_len = own if asked is None else asked
        """Most tokens of prompt and output together; None without a limit."""

    def chat(self, body: ChatBody) -> list[Ask]:
        """The choices of a chat completion.

        Raises:
            ApiError: it cannot be answered.
        """
        asked, newer = body.max_tokens, body.max_completion_tokens
        if asked is not None and newer is not None and asked != newer:
            raise invalid(
                f"max_tokens is {asked} and max_completion_tokens {newer}: give one of them",
                param="max_completion_tokens",
            )
        if body.top_logprobs is not None and not body.logprobs:
            raise invalid("top_logprobs needs logprobs: true", param="top_logprobs")
        messages = [message.for_template() for message in body.messages]
        prompt = self.encode(messages, param="messages")
        # The chosen token is reported as soon as there is one alternative.
        num_logprobs = max(1, body.top_logprobs or 0) if body.logprobs else 0
        asks = _Asks(self, body, asked or newer, _CHAT_TOKENS, num_logprobs)
        return asks.of(prompt)

    def completion(self, body: CompletionBody) -> list[Ask]:
        """The choices of a completion: those of the first prompt, of the second, ...

        Raises:
            ApiError: it cannot be answered.
        """
        prompts = body.prompts()
        num_choices = len(prompts) * (body.n or 1)
        if num_choices > MAX_CHOICES:
            raise invalid(
                f"{num_choices} texts are asked for: ask for {MAX_CHOICES} or fewer at once",
                param="prompt",
            )
        num_logprobs = 0 if body.logprobs is None else max(1, body.logprobs)
        asks = _Asks(self, body, body.max_tokens, _COMPLETION_TOKENS, num_logprobs)
        encoded = [self.encode(prompt, param="prompt") for prompt in prompts]
        return [ask for prompt in encoded for ask in asks.of(prompt)]

    def encode(self, prompt: Prompt, *, param: str) -> EncodedPrompt:
        """A prompt as token ids, which fit the model.

        Raises:
            ApiError: it does not, or is none.
        """
        try:
            encoded = encode_prompt(prompt, self.engine.tokenizer)
            require_fits(encoded.token_ids, self.engine.target.vocab_size, None)
        except PromptError as error:
            raise invalid(str(error), param=param) from error
        limit, num_tokens = self.max_model_len, len(encoded.token_ids)
        if limit is not None and num_tokens >= limit:
            raise too_long(
                f"the prompt has {num_tokens} tokens and the context {limit}, which leaves no "
                "room for a new one: shorten the prompt",
                param=param,
            )
        return encoded

    def draft(self, body: GenerationBody) -> Draft:
        """What drafts for this request."""
        return self._settings.draft if body.draft is None else body.draft

    def grammars(self) -> "Grammars":
        """What turns schemas and grammars into processors; made when it is first needed.

        Raises:
            ApiError: the model has no tokenizer.
        """
        from selfdraft.text.grammar import Grammars

        engine = self.engine
        if engine.tokenizer is None:
            raise invalid("the model has no tokenizer, so its output can follow no grammar")
        with self._lock:
            if self._grammars is None:
                self._grammars = Grammars(
                    engine.tokenizer,
                    vocab_size=engine.target.vocab_size,
                    eos_token_ids=engine.eos_token_ids | turn_end_ids(engine.tokenizer),
                )
            return self._grammars


class _Asks:
    """The choices of one body, prompt by prompt."""

    def __init__(
        self,
        preparer: Preparer,
        body: GenerationBody,
        max_tokens: int | None,
        usual_tokens: int,
        num_logprobs: int,
    ) -> None:
        self._preparer = preparer
        self._body = body
        self._max_tokens = max_tokens
        self._usual_tokens = usual_tokens
        self._num_logprobs = num_logprobs
        self._seed = secrets.randbits(64) if body.seed is None else body.seed
        if body.stream_options is not None and not body.stream:
            raise invalid("stream_options needs stream: true", param="stream_options")
        self._bias = self._logit_bias()

    def of(self, prompt: EncodedPrompt) -> list[Ask]:
        """The `n` choices of one prompt. The k-th has the k-th seed from the request's on."""
        num_tokens = len(prompt.token_ids)
        max_new_tokens = self._max_new_tokens(num_tokens)
        draft = self._preparer.draft(self._body)
        grammar = self._grammar(num_tokens)
        return [
            Ask(
                prompt,
                draft,
                self._options(max_new_tokens, (self._seed + k) % _NUM_SEEDS),
                self._processors(num_tokens, grammar),
            )
            for k in range(self._body.n or 1)
        ]

    def _max_new_tokens(self, num_prompt_tokens: int) -> int:
        limit = self._preparer.max_model_len
        room = None if limit is None else limit - num_prompt_tokens
        if self._max_tokens is None:
            return self._usual_tokens if room is None else min(self._usual_tokens, room)
        if room is not None and self._max_tokens > room:
            raise too_long(
                f"the prompt has {num_prompt_tokens} tokens and {self._max_tokens} are asked for, "
                f"but the context is {limit}: ask for {room} or fewer, or shorten the prompt",
                param="max_tokens"
                if self._body.max_tokens is not None
                else "max_completion_tokens",
            )
        return self._max_tokens

    def _options(self, max_new_tokens: int, seed: int) -> RequestOptions:
        body = self._body
        return RequestOptions(
            max_new_tokens=max_new_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(0, body.top_k or 0),
            min_p=body.min_p or 0.0,
            repetition_penalty=body.repetition_penalty or 1.0,
            seed=seed,
            stop=body.stop or (),
            logprobs=self._num_logprobs,
        )

    def _processors(
        self, num_prompt_tokens: int, grammar: "GrammarProcessor | None"
    ) -> tuple[LogitsProcessor, ...]:
        """The processors of one choice in order; no other may use them."""
        body = self._body
        processors: list[LogitsProcessor] = []
        if body.frequency_penalty or body.presence_penalty:
            from selfdraft.decoding.penalties import FrequencyPresencePenalty

            processors.append(
                FrequencyPresencePenalty(
                    num_prompt_tokens, body.frequency_penalty or 0.0, body.presence_penalty or 0.0
                )
            )
        if self._bias:
            from selfdraft.decoding.penalties import LogitBias

            processors.append(LogitBias(self._bias))
        if grammar is not None:
            processors.append(grammar.fresh())
        return tuple(processors)

    def _logit_bias(self) -> dict[int, float]:
        bias: dict[int, float] = {}
        vocab_size = self._preparer.engine.target.vocab_size
        for name, value in (self._body.logit_bias or {}).items():
            is_id = name.isascii() and name.isdigit() and len(name) < 12
            if not is_id or int(name) >= vocab_size:
                raise invalid(
                    f"logit_bias names {name!r}, which is no token: give ids from 0 to "
                    f"{vocab_size - 1}",
                    param="logit_bias",
                )
            bias[int(name)] = value
        return bias

    def _grammar(self, num_prompt_tokens: int) -> "GrammarProcessor | None":
        """What the answers must be, compiled; None if they may be anything."""
        chosen, grammar = self._body.response_format, self._body.grammar
        is_json = isinstance(chosen, JsonObjectFormat | JsonSchemaFormat)
        if grammar is None and not is_json:
            return None
        if grammar is not None and is_json:
            raise invalid("grammar and response_format exclude each other", param="grammar")
        made = self._preparer.grammars()
        try:
            if grammar is not None:
                return made.lark(grammar, num_prompt_tokens=num_prompt_tokens)
            if isinstance(chosen, JsonSchemaFormat):
                schema = chosen.json_schema.schema_
                return made.json_schema(schema, num_prompt_tokens=num_prompt_tokens)
            return made.json_object(num_prompt_tokens=num_prompt_tokens)
        except ConfigError as error:
            param = "grammar" if grammar is not None else "response_format"
            raise invalid(str(error), param=param) from error
