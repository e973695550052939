"""Every field of a body reaches the engine under the engine's own name."""

from typing import Any

import pytest
from server_runs import chat_body, settings
from tiny_models import text_engine

from selfdraft.server.prepare import Preparer
from selfdraft.server.protocol import ChatBody, CompletionBody
from selfdraft.server.token_texts import TokenTexts
from selfdraft.text.grammar import GrammarProcessor, Grammars


def chat_options(**fields: Any) -> dict[str, Any]:
    body = ChatBody.model_validate(chat_body(**fields))
    return dict(Preparer(text_engine(), settings()).chat(body)[0].options)


@pytest.mark.parametrize(
    ("field", "value", "option", "expected"),
    [
        ("temperature", 0.5, "temperature", 0.5),
        ("temperature", 0, "temperature", 0),
        ("temperature", None, "temperature", 1.0),
        ("top_p", 0.5, "top_p", 0.5),
        ("top_p", None, "top_p", 1.0),
        ("top_k", 7, "top_k", 7),
        ("top_k", -1, "top_k", 0),
        ("min_p", 0.25, "min_p", 0.25),
        ("repetition_penalty", 1.5, "repetition_penalty", 1.5),
        ("seed", 5, "seed", 5),
        ("seed", -1, "seed", 2**64 - 1),
        ("seed", 2**64 + 3, "seed", 3),
        ("stop", "a", "stop", "a"),
        ("stop", ["a", "b"], "stop", ["a", "b"]),
        ("max_tokens", 5, "max_new_tokens", 5),
        ("logprobs", True, "logprobs", 1),
    ],
)
def test_field_becomes_option(field: str, value: object, option: str, expected: object) -> None:
    """Guards against a field that is accepted and dropped."""
    assert chat_options(**{field: value})[option] == expected


def test_fields_that_depend_on_each_other() -> None:
    """Guards against the newer name of a field that only works beside the older one."""
    assert chat_options(max_tokens=None, max_completion_tokens=3)["max_new_tokens"] == 3
    assert chat_options(logprobs=True, top_logprobs=4)["logprobs"] == 4
    assert chat_options(logprobs=True, top_logprobs=0)["logprobs"] == 1


def test_draft_of_the_server_and_of_a_request() -> None:
    """Guards against a request that is drafted for in a way that nobody asked for."""
    preparer = Preparer(text_engine(), settings(draft="suffix"))
    for given, expected in ((None, "suffix"), ("off", "off")):
        body = ChatBody.model_validate(chat_body(draft=given))
        assert preparer.chat(body)[0].draft == expected


def test_lengths_that_are_not_given() -> None:
    """Guards against completions of another length than OpenAI's, and against chats without end."""
    preparer = Preparer(text_engine(), settings(max_model_len=500))
    body = CompletionBody.model_validate({"model": "tiny", "prompt": [1, 2]})
    assert preparer.completion(body)[0].options["max_new_tokens"] == 16
    body = CompletionBody.model_validate({"model": "tiny", "prompt": [1] * 490})
    assert preparer.completion(body)[0].options["max_new_tokens"] == 10


def test_choices_share_a_grammar_and_not_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a grammar compiled for every choice, and one whose place is that of two texts.

    The worker keeps one choice's processors while it writes another's.
    """
    compiled = []
    make = Grammars.lark

    def counted(grammars: Grammars, text: str, *, num_prompt_tokens: int) -> GrammarProcessor:
        compiled.append(text)
        return make(grammars, text, num_prompt_tokens=num_prompt_tokens)

    monkeypatch.setattr(Grammars, "lark", counted)
    grammar = 'start: "the"+'
    body = ChatBody.model_validate(chat_body(n=3, grammar=grammar, presence_penalty=1.0))
    asks = Preparer(text_engine(), settings()).chat(body)
    assert compiled == [grammar]
    processors = [processor for ask in asks for processor in ask.processors]
    assert len({id(processor) for processor in processors}) == len(processors) == 6


def test_tokens_as_text_and_bytes() -> None:
    """Guards against half characters in JSON, and bytes that are those of a replacement sign."""
    tokenizer = text_engine().tokenizer
    tokens = TokenTexts(tokenizer)
    whole = [tokens.of(token) for token in tokenizer(" the thé 🤖").input_ids]
    assert b"".join(token.raw for token in whole).decode() == " the thé 🤖"
    robot = [token for token in whole if not token.is_whole]
    assert [token.text for token in robot] == [f"bytes:\\x{b:02x}" for b in "🤖".encode()]
    assert tokens.of(tokenizer.eos_token_id).text == "<end>"
    assert tokens.of(10**6).raw == b""
