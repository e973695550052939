"""A prompt, in any of the forms that a user has it, as token ids."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from selfdraft.errors import PromptError

Message = Mapping[str, str]
Prompt = str | Sequence[Message] | Sequence[int] | torch.Tensor
"""Text, a list of chat messages (`{"role": ..., "content": ...}`), or token ids."""

_WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def encode_prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """The token ids of `prompt`.

    Raises:
        PromptError: it is empty, of no known form, no Unicode text, or needs a tokenizer that is
            not there.
    """
    if isinstance(prompt, Sequence) and len(prompt) == 0:
        token_ids = []
    elif isinstance(prompt, str):
        _require_unicode(prompt)
        token_ids = _require_tokenizer(tokenizer)(prompt)["input_ids"]
    elif isinstance(prompt, torch.Tensor):
        token_ids = _flatten(prompt)
    elif isinstance(prompt, Sequence) and all(isinstance(item, Mapping) for item in prompt):
        token_ids = _encode_chat(cast(Sequence[Message], prompt), _require_tokenizer(tokenizer))
    elif isinstance(prompt, Sequence) and _are_token_ids(prompt):
        token_ids = list(prompt)
    else:
        raise PromptError(
            f"prompt is a {type(prompt).__name__}: give text, a list of chat messages "
            '({"role": ..., "content": ...}), or a list of token ids'
        )
    if not token_ids:
        raise PromptError("the prompt is empty: give at least one token")
    return cast(list[int], token_ids)


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


def _require_tokenizer(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
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
    return all(isinstance(item, int) and not isinstance(item, bool) for item in items)


def _flatten(token_ids: torch.Tensor) -> list[int]:
    if token_ids.dim() == 2 and token_ids.shape[0] == 1:
        token_ids = token_ids[0]
    if token_ids.dim() != 1 or token_ids.dtype not in _WHOLE_NUMBERS:
        raise PromptError(
            f"prompt is a {token_ids.dtype} tensor of shape {tuple(token_ids.shape)}: give whole "
            "numbers of shape (tokens,) or (1, tokens); one sequence at a time"
        )
    return cast(list[int], token_ids.tolist())


def _encode_chat(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if not messages:
        return []
    if any({"role", "content"} - message.keys() for message in messages):
        raise PromptError('a chat message lacks "role" or "content"')
    for message in messages:
        for value in message.values():
            if isinstance(value, str):  # templates may take more than text
                _require_unicode(value)
    if tokenizer.chat_template is None:
        raise PromptError("the tokenizer has no chat template: give the prompt as text")
    try:
        token_ids = tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=True, return_dict=False
        )
    except TemplateError as error:  # a template may refuse roles, or their order
        raise PromptError(f"the model's chat template refuses the messages: {error}") from error
    return cast(list[int], token_ids)
