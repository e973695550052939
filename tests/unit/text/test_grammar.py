"""Grammars: what they allow, where a text is complete, and what they refuse to be."""

import functools
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import byte_tokenizer
from transformers import PreTrainedTokenizerBase

from selfdraft.errors import ConfigError
from selfdraft.text.grammar import GrammarProcessor, Grammars

END, MARK = 0, 1
VOCAB_SIZE = 300  # the tokenizer has fewer
NUM_PROMPT_TOKENS = 2
PEOPLE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["on", "the", "END"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@functools.cache
def grammars() -> Grammars:
    return Grammars(byte_tokenizer(), vocab_size=VOCAB_SIZE, eos_token_ids=frozenset([END]))


def new_processor(kind: str) -> GrammarProcessor:
    return compiled(kind).fresh()


@functools.cache
def compiled(kind: str) -> GrammarProcessor:
    made = grammars()
    if kind == "json_schema":
        return made.json_schema(PEOPLE, num_prompt_tokens=NUM_PROMPT_TOKENS)
    if kind == "json_object":
        return made.json_object(num_prompt_tokens=NUM_PROMPT_TOKENS)
    if kind == "lark":
        text = 'start: ("the " | word ",")+ "END"\nword: /[a-z]{1,3}/'
        return made.lark(text, num_prompt_tokens=NUM_PROMPT_TOKENS)
    return made.regex(r"(the|on){1,4}[0-9]*", num_prompt_tokens=NUM_PROMPT_TOKENS)


KINDS = ("json_schema", "json_object", "lark", "regex")


def mask(processor: GrammarProcessor, output: Sequence[int]) -> torch.Tensor:
    """What may follow `output`; all tokens, if that is not the beginning of an accepted text."""
    prefix = torch.tensor([[7] * NUM_PROMPT_TOKENS + list(output)])
    return processor(prefix, torch.zeros(1, VOCAB_SIZE))[0] == 0


def allowed(processor: GrammarProcessor, text: str) -> set[int]:
    return set(mask(processor, tokens_of(text)).nonzero().flatten().tolist())


def tokens_of(text: str) -> list[int]:
    return byte_tokenizer()(text)["input_ids"]


def token(text: str) -> int:
    (token_id,) = tokens_of(text)
    return token_id


def test_the_beginning_of_an_object() -> None:
    """Guards the first token of an output, whatever the prompt was."""
    assert allowed(new_processor("json_schema"), "") == {token("{")}


def test_a_complete_text_may_only_end() -> None:
    """Guards against output behind the last brace, and against an end before it."""
    processor = new_processor("json_schema")
    complete = '{"name":"on","age":7}'
    assert allowed(processor, complete) == {END}
    assert END not in allowed(processor, complete[:-1])


def test_a_text_that_may_end_or_go_on() -> None:
    """Guards grammars without a last character: the end token is one of several."""
    after = allowed(new_processor("regex"), "the1")
    assert END in after
    assert token("2") in after
    assert token("t") not in after


def test_every_end_token_ends() -> None:
    """Guards models with several end tokens, of which the tokenizer knows one."""
    made = Grammars(byte_tokenizer(), vocab_size=VOCAB_SIZE, eos_token_ids=frozenset([END, MARK]))
    processor = made.regex("the", num_prompt_tokens=NUM_PROMPT_TOKENS)
    assert allowed(processor, "the") == {END, MARK}
    assert not {END, MARK} & allowed(processor, "th")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_the_tokenizer_lacks_are_never_allowed(kind: str) -> None:
    """Guards models whose logits are padded to a round number."""
    first = mask(new_processor(kind), [])
    assert 0 < first.sum() < len(byte_tokenizer())
    assert not first[len(byte_tokenizer()) :].any()


@pytest.mark.parametrize("text", ["x", '{"age"', '{"name":"on","age":7}}'])
def test_a_wrong_prefix_leaves_the_scores(text: str) -> None:
    """Guards the nodes of a draft that cannot be accepted: they must not stop the round."""
    processor = new_processor("json_schema")
    assert mask(processor, tokens_of(text)).all()
    assert mask(processor, [END, token("{")]).all()
    assert mask(processor, [VOCAB_SIZE - 1]).all()
    assert allowed(processor, "") == {token("{")}


def walk(kind: str, steps: Sequence[int]) -> list[int]:
    """An output that follows the grammar where a step is positive, and need not where it is not."""
    processor = new_processor(kind)
    output: list[int] = []
    for step in steps:
        choices = mask(processor, output).nonzero().flatten().tolist()
        output.append(choices[step % len(choices)] if step > 0 else -step % VOCAB_SIZE)
    return output


@pytest.mark.parametrize("kind", KINDS)
@given(
    walks=st.lists(st.lists(st.integers(-3, 1000), max_size=12), min_size=1, max_size=4),
    data=st.data(),
)
def test_the_mask_depends_on_the_prefix_alone(
    kind: str, walks: list[list[int]], data: st.DataObject
) -> None:
    """Guards exactness: drafts ask for other prefixes in another order than plain decoding."""
    outputs = [walk(kind, steps) for steps in walks]
    prefixes = [output[:length] for output in outputs for length in range(len(output) + 1)]
    processor = new_processor(kind)
    for prefix in data.draw(st.permutations(prefixes)):
        assert torch.equal(mask(processor, prefix), mask(new_processor(kind), prefix)), prefix


def test_any_thread_makes_grammars() -> None:
    """Guards the server, which makes them where requests arrive and uses them in its worker."""
    made = Grammars(byte_tokenizer(), vocab_size=VOCAB_SIZE, eos_token_ids=frozenset([END]))
    with ThreadPoolExecutor(4) as pool:
        processors = list(
            pool.map(
                lambda _: made.json_schema(PEOPLE, num_prompt_tokens=NUM_PROMPT_TOKENS), range(8)
            )
        )
    assert all(allowed(processor, "") == {token("{")} for processor in processors)


STEP = {
    "title": "Step",
    "description": "One step.",
    "type": "object",
    "properties": {
        "output": {"title": "Output", "type": "string", "examples": ["on"]},
        "next": {"anyOf": [{"$ref": "#/$defs/Step"}, {"type": "null"}], "default": None},
    },
    "required": ["output"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"Step": STEP}, "type": "array", "items": {"$ref": "#/$defs/Step"}},
        {"definitions": {"A": {"type": "integer"}}, "allOf": [{"$ref": "#/definitions/A"}]},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://a/b"},
        {"type": ["string", "null"], "deprecated": True, "readOnly": True, "$comment": "old"},
        {"type": "string", "enum": ["on", "the"], "title": "Word"},
        {"const": "on"},
        {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]+$"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "email"},
        {"type": "string", "format": "uuid"},
        {"type": "integer", "minimum": 0, "exclusiveMaximum": 10, "format": "int64"},
        {"type": "number", "multipleOf": 0.5},
        {"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 1, "maxItems": 1},
        {"type": "object", "additionalProperties": {"type": "boolean"}},
        {
            "oneOf": [{"type": "string"}, {"type": "integer"}],
            "discriminator": {"propertyName": "a"},
        },
    ],
)
def test_what_clients_send_is_accepted(schema: dict[str, object]) -> None:
    """Guards against an annotation that is refused as a part that cannot be enforced."""
    assert mask(grammars().json_schema(schema, num_prompt_tokens=NUM_PROMPT_TOKENS), []).any()


@pytest.mark.slow
def test_a_grammar_that_never_compiles_is_refused() -> None:
    """Guards the server: this takes gigabytes and hours, and no thread can be stopped in it."""
    patterns = [{"type": "string", "pattern": f"a.{{{i}}}b{i}"} for i in range(200)]
    with pytest.raises(ConfigError, match="too much time or memory"):
        grammars().json_schema({"allOf": patterns}, num_prompt_tokens=0)


@pytest.mark.parametrize("nested", ["(" * 20_000 + '"a"' + ")" * 20_000, "(" * 300 + '"a"'])
def test_what_is_nested_too_deeply_is_refused(nested: str) -> None:
    """Guards against an overflow of the stack, and against an error as long as the grammar."""
    with pytest.raises(ConfigError, match="nested") as caught:
        grammars().lark(f"start: {nested}", num_prompt_tokens=0)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "format": "no-such-format"}, "no-such-format"),
        ({"type": "text"}, "text"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$ref": "#"}, "no text"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "minimum"),
        ({"type": "string", "pattern": "("}, ""),
        ({"const": "\ud800"}, ""),
        ({"const": object()}, ""),
    ],
)
def test_what_cannot_be_enforced_is_refused(schema: dict[str, object], reason: str) -> None:
    """Guards against a schema of which a part is quietly ignored."""
    with pytest.raises(ConfigError, match=f"JSON schema.*{reason}"):
        grammars().json_schema(schema, num_prompt_tokens=0)


@pytest.mark.parametrize("text", ["start: missing", "begin: /a/", "start: (", "", "\ud800"])
def test_a_wrong_grammar_is_refused(text: str) -> None:
    """Guards against an error of the library, or one that comes with the first token."""
    with pytest.raises(ConfigError, match="grammar"):
        grammars().lark(text, num_prompt_tokens=0)


@pytest.mark.parametrize("pattern", ["(", "[z-a]", r"(a)\1", "\ud800"])
def test_a_wrong_expression_is_refused(pattern: str) -> None:
    """Guards against expressions that other libraries have and this one has not."""
    with pytest.raises(ConfigError, match="regular expression"):
        grammars().regex(pattern, num_prompt_tokens=0)


def test_a_model_without_an_end_token_is_refused() -> None:
    """Guards against a complete text after which no token is allowed at all."""
    made = Grammars(byte_tokenizer(), vocab_size=VOCAB_SIZE, eos_token_ids=frozenset())
    with pytest.raises(ConfigError, match="end token"):
        made.json_object(num_prompt_tokens=0)


def test_a_tokenizer_without_rules_is_refused() -> None:
    """Guards slow tokenizers, which the library cannot read."""
    made = Grammars(PreTrainedTokenizerBase(), vocab_size=9, eos_token_ids=frozenset([END]))
    with pytest.raises(ConfigError, match="fast tokenizer"):
        made.json_object(num_prompt_tokens=0)


def test_without_the_library_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the install without the server's extras."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"pip install 'selfdraft\[serve\]'"):
        grammars().json_object(num_prompt_tokens=0)
