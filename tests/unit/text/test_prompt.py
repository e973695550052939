"""Prompts: their encoding, and whether they fit. The engine's tests try every wrong form."""

import copy

import numpy as np
import pytest
import torch
from tiny_models import byte_tokenizer, framing_tokenizer

from selfdraft.errors import PromptError
from selfdraft.text.prompt import Prompt, encode_prompt, require_fits, turn_end_ids


def test_text_and_chat() -> None:
    """Guards against special tokens that are added twice, or a template that is not used."""
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(encode_prompt("the END", tokenizer).token_ids) == "the END"
    chat = encode_prompt([{"role": "user", "content": "the"}], tokenizer).token_ids
    assert tokenizer.decode(chat) == "<user>the\n<assistant>"


def test_ids_are_copied() -> None:
    """Guards against a generation that appends to the caller's list."""
    prompt = [1, 2, 3]
    assert encode_prompt(prompt, None).token_ids == prompt
    assert encode_prompt(prompt, None).token_ids is not prompt
    assert encode_prompt(torch.tensor([[1, 2, 3]]), None).token_ids == prompt


def test_text_needs_a_tokenizer() -> None:
    """Guards against an AttributeError on None."""
    with pytest.raises(PromptError, match="tokenizer"):
        encode_prompt("the", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the", [0, "the"]),
        ("<bos>the", [0, "the"]),  # begun once, not twice
        ("the<eos>", [0, "the", 1]),  # an end that was asked for
        ("", [0]),
    ],
)
def test_a_text_is_begun_once_and_not_ended(text: str, expected: list[object]) -> None:
    """Guards against two BOS, against an EOS after which a model has nothing to say."""
    tokenizer = framing_tokenizer()
    the = tokenizer.convert_tokens_to_ids("the")
    assert tokenizer(text or "the")["input_ids"][-1] == 1, "this tokenizer ends every text"
    ids = encode_prompt(text, tokenizer).token_ids
    assert ids == [the if token == "the" else token for token in expected]


def test_an_empty_text_where_there_is_no_beginning() -> None:
    """Guards against a text that begins with None."""
    with pytest.raises(PromptError, match="empty"):
        encode_prompt("", byte_tokenizer())


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "the"}],
        [{"text": "the"}],
        "the",
    ],
)
def test_parts_are_their_text(content: object) -> None:
    """Guards against a list that is printed into the prompt."""
    tokenizer = byte_tokenizer()
    messages = [{"role": "user", "content": content}]
    ids = encode_prompt(messages, tokenizer).token_ids
    assert tokenizer.decode(ids) == "<user>the\n<assistant>"


def test_several_parts_are_lines() -> None:
    """Guards against words that run into each other."""
    tokenizer = byte_tokenizer()
    parts = [{"type": "text", "text": "the"}, {"type": "text", "text": "END"}]
    ids = encode_prompt([{"role": "user", "content": parts}], tokenizer).token_ids
    assert tokenizer.decode(ids) == "<user>the\nEND\n<assistant>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"type": "image_url", "image_url": "x"}], "of type 'image_url'"),
        ([{"type": "text", "text": 3}], "of type 'text'"),
        (["the"], "of type 'str'"),
        (None, "NoneType"),
        (3, "int"),
        ({"type": "text", "text": "the"}, "dict"),
    ],
)
def test_contents_that_are_no_text(content: object, message: str) -> None:
    """Guards against their Python spelling in the prompt."""
    with pytest.raises(PromptError, match=message):
        encode_prompt([{"role": "user", "content": content}], byte_tokenizer())


def test_a_template_that_fails_in_its_own_code() -> None:
    """Guards against a traceback of jinja."""
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = "{{ messages[0]['content'] + 1 }}"
    with pytest.raises(PromptError, match="chat template refuses"):
        encode_prompt([{"role": "user", "content": "the"}], tokenizer)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("{{ m['content'] }}<mark>\n", "<mark>"),
        ("{{ m['content'] | trim }} <mark><end>", "<mark>"),
        ("{{ m['content'] }}<end>", "<end>"),
        ("{{ m['content'] }}\n", None),
        ("{{ m['content'] }} the<mark>", None),
        ("{{ m['content'] | upper }}<mark>", None),
        ("{{ raise_exception('no') }}", None),
    ],
)
def test_the_end_of_a_turn(template: str, end: str | None) -> None:
    """Guards against answers that run on, and against an end that is none."""
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = "{% for m in messages %}" + template + "{% endfor %}"
    expected = frozenset() if end is None else {tokenizer.convert_tokens_to_ids(end)}
    assert turn_end_ids(tokenizer) == expected


def test_only_a_chat_has_turns() -> None:
    """Guards against a text that ends at a token which is nothing special there."""
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<mark>{% endfor %}"
    assert encode_prompt("the", tokenizer).turn_end_ids == frozenset()
    chat = encode_prompt([{"role": "user", "content": "the"}], tokenizer)
    assert chat.turn_end_ids == {tokenizer.convert_tokens_to_ids("<mark>")}


def test_ids_of_numpy() -> None:
    """Guards against a prompt refused for the library that its numbers come from."""
    ids = encode_prompt(list(np.array([1, 2])), None).token_ids
    assert ids == [1, 2]
    assert all(type(token) is int for token in ids)


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
