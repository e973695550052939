"""Contract L3 under constraints: with penalties, biases and grammars, too, no draft changes a text.

The models are random, so it is the constraint alone that makes JSON of what they write.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence

import pytest
from tiny_models import DRAFTS, byte_tokenizer, text_engine
from transformers import LogitsProcessor

from selfdraft import DraftConfig, Engine, Result, SkipSet
from selfdraft.decoding.penalties import FrequencyPresencePenalty, LogitBias
from selfdraft.drafts import Draft
from selfdraft.text.grammar import Grammars

PROMPT = byte_tokenizer()("the word on the END, the")["input_ids"]
NUM_TOKENS = 48

SCHEMA = {
    "x-guidance": {"whitespace_flexible": False},
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["on", "the", "END"]}, "maxItems": 3},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
LARK = 'start: pair{12}\npair: "the" | "on" | /[ab]{2}/'
LARK_AS_REGEX = r"(the|on|[ab]{2}){12}"
REGEX = r"(the|[a-c]{2}|END ){4,14}"

Constraint = Callable[[int], Sequence[LogitsProcessor]]


@functools.cache
def grammars() -> Grammars:
    engine = text_engine()
    return Grammars(
        byte_tokenizer(),
        vocab_size=engine.target.vocab_size,
        eos_token_ids=engine.eos_token_ids,
    )


def penalties(num_prompt_tokens: int) -> Sequence[LogitsProcessor]:
    return [FrequencyPresencePenalty(num_prompt_tokens, frequency=2.0, presence=1.5)]


def bias(num_prompt_tokens: int) -> Sequence[LogitsProcessor]:
    return [LogitBias({40: 8.0, 41: 7.5, 42: -100.0, 0: -100.0})]


def json_schema(num_prompt_tokens: int) -> Sequence[LogitsProcessor]:
    return [grammars().json_schema(SCHEMA, num_prompt_tokens=num_prompt_tokens)]


def lark(num_prompt_tokens: int) -> Sequence[LogitsProcessor]:
    return [grammars().lark(LARK, num_prompt_tokens=num_prompt_tokens)]


def regex(num_prompt_tokens: int) -> Sequence[LogitsProcessor]:
    return [grammars().regex(REGEX, num_prompt_tokens=num_prompt_tokens)]


def all_of_them(num_prompt_tokens: int) -> Sequence[LogitsProcessor]:
    return [
        *bias(num_prompt_tokens),
        *penalties(num_prompt_tokens),
        *json_schema(num_prompt_tokens),
    ]


CONSTRAINTS = (penalties, bias, json_schema, lark, regex, all_of_them)
SAMPLING: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.0, "seed": 5},
    "filtered": {"temperature": 1.4, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 6},
}
ALL_DRAFTS: dict[str, Draft] = {
    **{name: name for name in ("auto", "swift", "suffix", "recycling")},
    **{name: DRAFTS[name] for name in ("chain", "wide tree", "everything skipped")},
}


def write(
    draft: Draft, constraint: Constraint, *, engine: Engine | None = None, **options: float
) -> Result:
    return (engine or text_engine()).generate(
        PROMPT,
        draft=draft,
        logits_processors=constraint(len(PROMPT)),
        max_new_tokens=NUM_TOKENS,
        **options,  # type: ignore[arg-type]
    )


@functools.cache
def plain(constraint: Constraint, sampling: str) -> Result:
    return write("off", constraint, **SAMPLING[sampling])


@pytest.mark.parametrize("draft", ["recycling", "wide tree"])
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: constraint.__name__)
def test_no_draft_changes_the_text(constraint: Constraint, draft: str) -> None:
    """Guards against counts and matchers that see a draft's tokens, or keep what was refused."""
    drafted = write(ALL_DRAFTS[draft], constraint, **SAMPLING["sampled"])
    assert drafted.token_ids == plain(constraint, "sampled").token_ids


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: constraint.__name__)
def test_no_draft_changes_any_text(constraint: Constraint, sampling: str) -> None:
    """Guards the same with every draft and every way to sample."""
    expected = plain(constraint, sampling).token_ids
    for name, draft in ALL_DRAFTS.items():
        assert write(draft, constraint, **SAMPLING[sampling]).token_ids == expected, name


@pytest.mark.parametrize("sampling", SAMPLING)
def test_the_output_is_what_was_asked_for(sampling: str) -> None:
    """Guards the constraint itself: a text of the grammar, whole, with the end token behind it."""
    for constraint in (json_schema, all_of_them):
        result = plain(constraint, sampling)
        assert result.finish_reason == "eos"
        document = json.loads(result.text)
        assert list(document) == ["name", "age", "likes"]
        assert len(document["name"]) <= 6
        assert 0 <= document["age"] <= 120
        assert set(document["likes"]) <= {"on", "the", "END"}
    for constraint, pattern in ((lark, LARK_AS_REGEX), (regex, REGEX)):
        result = plain(constraint, sampling)
        assert result.finish_reason == "eos"
        assert re.fullmatch(pattern, result.text)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_constraints_change_the_text(sampling: str) -> None:
    """Guards against processors that do nothing, with which every test here would pass."""
    free = write("off", lambda _: [], **SAMPLING[sampling]).token_ids
    for constraint in CONSTRAINTS:
        assert plain(constraint, sampling).token_ids != free, constraint.__name__


def test_drafts_are_accepted_and_refused_under_constraints() -> None:
    """Guards against a test of exactness whose drafts are all right, or all wrong."""
    for constraint in (penalties, json_schema, regex):
        result = write(DRAFTS["wide tree"], constraint, **SAMPLING["sampled"])
        assert 0 < result.stats.acceptance_rate < 1, constraint.__name__


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: constraint.__name__)
def test_a_good_draft_knows_the_constraint(constraint: Constraint, sampling: str) -> None:
    """Guards acceptance: a draft that ranks its tokens without the grammar is hardly ever right.

    With nothing skipped the draft is the target, so it errs nowhere but behind the end.
    """
    draft = DraftConfig.chain(4, skip_set=SkipSet())
    stats = write(draft, constraint, **SAMPLING[sampling]).stats
    assert stats.num_accepted >= stats.num_drafted - draft.max_draft_steps
    assert stats.num_accepted > stats.num_new_tokens / 2


def test_one_processor_serves_a_request_again() -> None:
    """Guards against what one generation leaves behind in a processor."""
    processors = json_schema(len(PROMPT))
    texts = {
        write(draft, lambda _: processors, **SAMPLING["sampled"]).text
        for draft in ("off", DRAFTS["wide tree"], "recycling")
    }
    assert texts == {plain(json_schema, "sampled").text}


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_real_model_writes_valid_json(temperature: float) -> None:
    """Guards a real tokenizer and a padded vocabulary: valid JSON, and the same with drafts."""
    engine = Engine.load("smollm2-135m", dtype="bfloat16", device="cpu")
    assert engine.tokenizer is not None
    made = Grammars(
        engine.tokenizer, vocab_size=engine.target.vocab_size, eos_token_ids=engine.eos_token_ids
    )
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 40},
            "year": {"type": "integer", "minimum": 1900, "maximum": 2030},
            "tags": {"type": "array", "items": {"enum": ["old", "new", "sad"]}, "maxItems": 2},
        },
        "required": ["title", "year", "tags"],
        "additionalProperties": False,
    }
    prompt = engine.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Describe a film as JSON with title, year and tags."}],
        add_generation_prompt=True,
        return_dict=False,
    )
    results = [
        engine.generate(
            prompt,
            draft=draft,
            logits_processors=[made.json_schema(schema, num_prompt_tokens=len(prompt))],
            max_new_tokens=160,
            temperature=temperature,
            seed=3,
        )
        for draft in ("off", "auto", "recycling", DraftConfig.chain(5, skip_set=SkipSet()))
    ]
    assert all(result.token_ids == results[0].token_ids for result in results)
    assert results[0].finish_reason == "eos"
    document = json.loads(results[0].text)
    assert list(document) == ["title", "year", "tags"]
    assert 1900 <= document["year"] <= 2030
    assert results[-1].stats.acceptance_rate > 0.8
