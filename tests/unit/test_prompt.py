"""Prompts: their encoding, and whether they fit. The engine's tests try every wrong form."""

import pytest
import torch
from tiny_models import byte_tokenizer

from selfdraft.errors import PromptError
from selfdraft.prompt import Prompt, encode_prompt, require_fits


def test_text_and_chat() -> None:
    """Guards against special tokens that are added twice, or a template that is not used."""
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(encode_prompt("the END", tokenizer)) == "the END"
    chat = encode_prompt([{"role": "user", "content": "the"}], tokenizer)
    assert tokenizer.decode(chat) == "<user>the\n<assistant>"


def test_ids_are_copied() -> None:
    """Guards against a generation that appends to the caller's list."""
    prompt = [1, 2, 3]
    assert encode_prompt(prompt, None) == prompt
    assert encode_prompt(prompt, None) is not prompt
    assert encode_prompt(torch.tensor([[1, 2, 3]]), None) == prompt


def test_text_needs_a_tokenizer() -> None:
    """Guards against an AttributeError on None."""
    with pytest.raises(PromptError, match="tokenizer"):
        encode_prompt("the", None)


@pytest.mark.parametrize(
    "prompt",
    [
        "the \ud800 END",
        [{"role": "user", "content": "the \ud800 END"}],
        [{"role": "\udc80", "content": "the"}],
    ],
)
def test_half_a_surrogate_pair_is_refused(prompt: Prompt) -> None:
    """Guards against the tokenizer's own TypeError, which says nothing of the text."""
    with pytest.raises(PromptError, match=r"'\\ud[c8][08]0'.*decode the text"):
        encode_prompt(prompt, byte_tokenizer())


@pytest.mark.parametrize(
    ("token_ids", "max_context", "message"),
    [
        ([0, 10], None, "token id 10 is not in the vocabulary: give 0 to 9"),
        ([-1], None, "token id -1"),
        ([1, 2, 3], 3, "3 tokens and the model's context 3"),
        ([1, 2, 3, 4], 3, "4 tokens and the model's context 3"),
    ],
)
def test_what_does_not_fit(token_ids: list[int], max_context: int | None, message: str) -> None:
    """Guards against an index error in the embedding, or positions out of range."""
    with pytest.raises(PromptError, match=message):
        require_fits(token_ids, 10, max_context)


def test_what_fits() -> None:
    """Guards against a limit that is one too strict."""
    require_fits([0, 9], 10, 3)
    require_fits([5] * 1000, 10, None)
