"""The output ends exactly where it should, also in the middle of an accepted path."""

import pytest
import torch
from decoding_runs import Script
from tiny_models import (
    DRAFTS,
    TREE,
    byte_tokenizer,
    make_prompt,
    text_engine,
    tiny_engine,
    tiny_model,
    transformers_greedy,
)

from selfdraft import DraftConfig, Engine
from selfdraft.errors import PromptError
from selfdraft.generation import Result

PROMPT = "the "
CHAINS = {"off": "off", **{f"chain of {k}": DraftConfig.chain(k) for k in (1, 2, 3, 8)}}


def write(
    token_ids: list[int], draft: DraftConfig | str, stop: str | list[str], **options: object
) -> Result:
    """Generate `token_ids`, which the model is made to write, unless something ends it before."""
    engine = text_engine()
    script = Script(len(engine.tokenizer(PROMPT).input_ids), token_ids)
    options = {"max_new_tokens": len(token_ids), **options}
    return engine.generate(PROMPT, draft=draft, stop=stop, logits_processors=[script], **options)


def one_by_one(text: str) -> list[int]:
    """The tokens of `text`, a byte each."""
    tokenizer = byte_tokenizer()
    return [i for byte in text.encode() for i in tokenizer(chr(byte)).input_ids[:1]]


@pytest.mark.parametrize("draft", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize(
    ("text", "stop", "shown", "num_tokens"),
    [
        ("abcdEFgh", "dE", "abc", 5),
        ("abcdEFgh", "a", "", 1),
        ("abcdEFgh", ["gh", "cdE", "dEFg"], "ab", 5),
        ("abcdEFgh", ["cd", "bcd"], "a", 4),
        ("aabaabaac", "aabaac", "aab", 9),
        ("abcabcabd", "abd", "abcabc", 9),
        ("abcdEFgh", "hz", "abcdEFgh", None),
        ("abcdEFgh", "z", "abcdEFgh", None),
    ],
)
def test_stop_string(
    text: str, stop: str | list[str], shown: str, num_tokens: int | None, draft: DraftConfig
) -> None:
    """Guards against stop strings missed where tokens or rounds meet, at the start of the output,
    where two overlap, or after one that almost matched.
    """
    result = write(one_by_one(text), draft, stop)
    assert result.text == shown
    assert result.finish_reason == ("length" if num_tokens is None else "stop")
    assert len(result.token_ids) == (num_tokens or len(text)) == result.stats.num_new_tokens


@pytest.mark.parametrize("draft", CHAINS.values(), ids=CHAINS)
def test_stop_string_in_the_middle_of_a_token(draft: DraftConfig) -> None:
    """Guards against text of the last token that is shown though it follows the stop string."""
    tokens = byte_tokenizer()("on the END er").input_ids
    result = write(tokens, draft, "N")
    assert result.text == "on the E"
    assert byte_tokenizer().decode(result.token_ids) == "on the END"


def test_scripted_drafts_are_accepted() -> None:
    """Guards against stop tests in which no accepted path is ever long enough to be cut."""
    result = write(one_by_one("abcdEFgh"), DraftConfig.chain(8), [])
    assert result.stats.num_rounds == 1
    assert result.stats.acceptance_rate == 1.0


@pytest.mark.parametrize("draft", CHAINS.values(), ids=CHAINS)
def test_end_token_ends_the_text_and_is_not_shown(draft: DraftConfig) -> None:
    """Guards against an end token that is written out, dropped from the ids, or run over."""
    end = byte_tokenizer().eos_token_id
    result = write([*one_by_one("abc"), end, *one_by_one("def")], draft, "e")
    assert result.text == "abc"
    assert result.token_ids == (*one_by_one("abc"), end)
    assert result.finish_reason == "eos"


@pytest.mark.parametrize("draft", CHAINS.values(), ids=CHAINS)
def test_end_token_before_a_stop_string_could_complete(draft: DraftConfig) -> None:
    """Guards against text that is held back for a stop string and lost at the end."""
    end = byte_tokenizer().eos_token_id
    result = write([*one_by_one("abST"), end], draft, "STOP")
    assert (result.text, result.finish_reason) == ("abST", "eos")


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["tree", "nothing skipped"])
def test_max_new_tokens_is_exact(name: str, num_tokens: int) -> None:
    """Guards against a round that writes more than was asked for."""
    result = tiny_engine().generate(make_prompt(5), draft=DRAFTS[name], max_new_tokens=num_tokens)
    assert len(result.token_ids) == num_tokens
    assert result.finish_reason == "length"


@pytest.mark.parametrize("draft", ["off", TREE, DRAFTS["nothing skipped"]], ids=str)
@pytest.mark.parametrize("prompt_length", [1, 8, 15])
def test_full_context_ends_the_output(draft: DraftConfig | str, prompt_length: int) -> None:
    """Guards against positions that the model was never given, and against stopping short."""
    engine = Engine(tiny_model(max_position_embeddings=16))
    prompt = make_prompt(prompt_length)
    result = engine.generate(prompt, draft=draft, max_new_tokens=100)
    assert result.finish_reason == "context"
    assert prompt_length + len(result.token_ids) == 16
    assert result.token_ids == transformers_greedy(engine.target.model, prompt, 16 - prompt_length)


def test_length_and_context_at_once_is_length() -> None:
    """Guards against blaming the context for an output that is as long as was asked for."""
    engine = Engine(tiny_model(max_position_embeddings=16))
    result = engine.generate(make_prompt(8), draft=TREE, max_new_tokens=8)
    assert (len(result.token_ids), result.finish_reason) == (8, "length")


def test_prompt_that_fills_the_context() -> None:
    """Guards against a request that could not write a single token."""
    engine = Engine(tiny_model(max_position_embeddings=16))
    with pytest.raises(PromptError, match="16 tokens and the model's context 16"):
        engine.generate(make_prompt(16))


@pytest.mark.parametrize("name", ["tree", "nothing skipped"])
def test_logprobs_are_those_of_a_plain_forward_pass(name: str) -> None:
    """Guards against log-probabilities of another node, of warped logits, or behind the end."""
    engine = tiny_engine()
    prompt = make_prompt(6)
    options = {"max_new_tokens": 9, "temperature": 1.2, "top_k": 8, "seed": 4}
    result = engine.generate(prompt, draft=DRAFTS[name], logprobs=3, **options)
    with torch.inference_mode():
        logits = engine.target.model(torch.tensor([[*prompt, *result.token_ids]])).logits[0]
    expected = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
    assert result.logprobs is not None
    assert [entry.token_id for entry in result.logprobs] == list(result.token_ids)
    for entry, row in zip(result.logprobs, expected, strict=True):
        assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=1e-4)
        best = row.topk(3)
        assert [token_id for token_id, _ in entry.top] == best.indices.tolist()
        assert [p for _, p in entry.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_logprobs_end_with_the_output() -> None:
    """Guards against log-probabilities of accepted tokens that were cut off."""
    end = byte_tokenizer().eos_token_id
    tokens = [*one_by_one("abc"), end, *one_by_one("def")]
    result = write(tokens, DraftConfig.chain(6), [], logprobs=1)
    assert result.logprobs is not None
    assert len(result.logprobs) == 4
