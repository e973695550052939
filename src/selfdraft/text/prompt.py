"""A prompt, in any of the forms that a user has it, as token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import cast

import torch
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from selfdraft.errors import PromptError

Message = Mapping[str, object]
"""`{"role": ..., "content": ...}`; the content is text, or a list of parts that are text."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as token ids, and what its form says about the text that is written after it."""

    token_ids: list[int]
    is_chat: bool = False
    """Whether the output is a message of its own; else it continues the prompt's text."""
    turn_end_ids: frozenset[int] = frozenset()
    """Tokens that end a turn of the chat, beside the model's own end tokens."""


Prompt = str | Sequence[Message] | Sequence[int] | torch.Tensor | EncodedPrompt
"""Text, a list of chat messages (`{"role": ..., "content": ...}`), or token ids."""

_WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

# What a chat template raises whose author did not think of these messages.
_TEMPLATE_FAILURES = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
)  # fmt: skip

_ANSWER = "An answer."


def encode_prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase | None) -> EncodedPrompt:
    """The token ids of `prompt`, and how its output ends.

    Raises:
        PromptError: it is empty, of no known form, no Unicode text, or needs a tokenizer that is
            not there.
    """
    if isinstance(prompt, EncodedPrompt):
        return prompt
    is_chat = False
    token_ids: list[int] = []
    if isinstance(prompt, str):
        _require_unicode(prompt)
        token_ids = _encode_text(prompt, tokenizer)
    elif isinstance(prompt, torch.Tensor):
        token_ids = _flatten(prompt)
    elif isinstance(prompt, Sequence) and all(isinstance(item, Mapping) for item in prompt):
        is_chat = len(prompt) > 0
        if is_chat:
            token_ids = _encode_chat(cast(Sequence[Message], prompt), _required(tokenizer))
    elif isinstance(prompt, Sequence) and _are_token_ids(prompt):
        token_ids = [int(token) for token in cast(Sequence[int], prompt)]
    else:
        raise PromptError(
            f"prompt is a {type(prompt).__name__}: give text, a list of chat messages "
            '({"role": ..., "content": ...}), or a list of token ids'
        )
    if not token_ids:
        raise PromptError("the prompt is empty: give at least one token")
    ends = turn_end_ids(_required(tokenizer)) if is_chat else frozenset()
    return EncodedPrompt(token_ids, is_chat, ends)


def turn_end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The special token that a chat template writes right after an answer; empty if there is none.

    A generation config may name another token, or none, and the answer would run on into a turn of
    the user's.
    """
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = cast(str, tokenizer.apply_chat_template(messages, tokenize=False))
    except _TEMPLATE_FAILURES:  # a template that wants other messages than these
        return frozenset()
    _, answer, rest = text.rpartition(_ANSWER)
    ends = [token for token in special_tokens(tokenizer) if rest.lstrip().startswith(token)]
    if not answer or not ends:
        return frozenset()
    return frozenset([cast(int, tokenizer.convert_tokens_to_ids(max(ends, key=len)))])


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every token that a text is shown without."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return [*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)]


def text_of_parts(content: object) -> str:
    """The text of a message's content: a string, or OpenAI's parts, each on a line of its own.

    Raises:
        PromptError: it is neither, or a part is no text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise PromptError(
            f"the content of a chat message is a {type(content).__name__}: give text, or a list of "
            'parts ({"type": "text", "text": ...})'
        )
    return "\n".join(_text_of(part) for part in content)


def _text_of(part: object) -> str:
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(text, str):
        raise PromptError(
            f"a part of a chat message is of type {kind!r}: give parts of text "
            '({"type": "text", "text": ...})'
        )
    return text


def require_fits(token_ids: Sequence[int], vocab_size: int, max_context: int | None) -> None:
    """Raise `PromptError` unless the model can read the prompt and write at least one token."""
    wrong = next((token for token in token_ids if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise PromptError(f"token id {wrong} is not in the vocabulary: give 0 to {vocab_size - 1}")
    if max_context is not None and len(token_ids) >= max_context:
        raise PromptError(
            f"the prompt has {len(token_ids)} tokens and the model's context {max_context}, which "
            "leaves no room for a new one: shorten the prompt"
        )


def _required(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    if tokenizer is None:
        raise PromptError(
            "text needs a tokenizer: give Engine one, or give the prompt as token ids"
        )
    return tokenizer


def _require_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"character {error.start} of the text is {text[error.start]!r}, half of a surrogate "
            "pair, which no tokenizer can read: decode the text as what it is (UTF-8, UTF-16, ...),"
            " or leave the character out"
        ) from error


def _are_token_ids(items: Sequence[object]) -> bool:
    if isinstance(items, bytes | bytearray):
        return False
    return all(isinstance(item, Integral) and not isinstance(item, bool) for item in items)


def _flatten(token_ids: torch.Tensor) -> list[int]:
    if token_ids.dim() == 2 and token_ids.shape[0] == 1:
        token_ids = token_ids[0]
    if token_ids.dim() != 1 or token_ids.dtype not in _WHOLE_NUMBERS:
        raise PromptError(
            f"prompt is a {token_ids.dtype} tensor of shape {tuple(token_ids.shape)}: give whole "
            "numbers of shape (tokens,) or (1, tokens); one sequence at a time"
        )
    return cast(list[int], token_ids.tolist())


def _encode_text(text: str, tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """The tokens of a text that goes on: begun once as the tokenizer begins one, and not ended.

    A tokenizer may begin a text with tokens of its own, which may stand in the text already, and
    end it with others, after which nothing would follow.
    """
    known = _required(tokenizer)
    plain = cast(list[int], known(text, add_special_tokens=False)["input_ids"]) if text else []
    if not plain:
        start = known.bos_token_id
        return [] if start is None else [cast(int, start)]
    whole = cast(list[int], known(text)["input_ids"])
    at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), None)
    if at is None:  # a tokenizer that reads a text otherwise when it adds tokens to it
        return whole
    begun = whole[:at]
    return plain if plain[: len(begun)] == begun else begun + plain


def _encode_chat(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if any({"role", "content"} - message.keys() for message in messages):
        raise PromptError('a chat message lacks "role" or "content"')
    plain = [{**message, "content": text_of_parts(message["content"])} for message in messages]
    for message in plain:
        for value in message.values():
            if isinstance(value, str):  # templates may take more than text
                _require_unicode(value)
    if tokenizer.chat_template is None:
        raise PromptError("the tokenizer has no chat template: give the prompt as text")
    try:
        token_ids = tokenizer.apply_chat_template(
            cast(list[dict[str, str]], plain), add_generation_prompt=True, return_dict=False
        )
    except _TEMPLATE_FAILURES as error:  # a template may refuse roles, or their order
        raise PromptError(f"the model's chat template refuses the messages: {error}") from error
    return cast(list[int], token_ids)
