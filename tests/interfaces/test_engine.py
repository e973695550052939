"""The engine: prompts in every form, results in full, errors that say what to do."""

import copy
import json

import pytest
import torch
from decoding_runs import Script
from tiny_models import (
    DRAFTS,
    TREE,
    byte_tokenizer,
    framing_tokenizer,
    make_prompt,
    text_engine,
    tiny_engine,
    tiny_model,
)
from transformers import LlamaConfig, LlamaModel, T5Config, T5ForConditionalGeneration

import selfdraft
from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.errors import ConfigError, PromptError, SkipSetError, UnsupportedModelError

MESSAGES = [{"role": "user", "content": "the thé"}]


def test_every_form_of_a_prompt_gives_the_same() -> None:
    """Guards against a form of prompt that is encoded in its own way."""
    engine = text_engine()
    token_ids = engine.tokenizer("on the END").input_ids
    expected = engine.generate("on the END", max_new_tokens=6).token_ids
    for prompt in (
        token_ids,
        tuple(token_ids),
        torch.tensor(token_ids),
        torch.tensor([token_ids], dtype=torch.int32),
    ):
        assert engine.generate(prompt, max_new_tokens=6).token_ids == expected


def test_chat_messages_go_through_the_template() -> None:
    """Guards against a chat without the opening of the assistant's turn."""
    engine = text_engine()
    expected = engine.generate("<user>the thé\n<assistant>", max_new_tokens=6).token_ids
    assert engine.generate(MESSAGES, max_new_tokens=6).token_ids == expected


def test_a_prompt_is_not_changed() -> None:
    """Guards against output that is appended to the caller's own list."""
    prompt, tensor = [5, 9, 3], torch.tensor([5, 9, 3])
    tiny_engine().generate(prompt, max_new_tokens=4)
    tiny_engine().generate(tensor, max_new_tokens=4)
    assert prompt == tensor.tolist() == [5, 9, 3]


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        (),
        "",
        torch.tensor([], dtype=torch.long),
        [96],
        [-1],
        [1.5],
        [1, "a"],
        [None],
        None,
        3,
        {1, 2},
        {"input_ids": [1]},
        torch.tensor(1),
        torch.tensor([[1], [2]]),
        torch.tensor([1.0]),
        torch.tensor([1j]),
        torch.tensor([True, False]),
        [True, False],
        b"ab",
        "text",
        MESSAGES,
        [{"role": "user"}],
    ],
    ids=repr,
)
def test_impossible_prompt(prompt: object) -> None:
    """Guards against a prompt that dies far from where it was given, or is read as another."""
    with pytest.raises(PromptError):
        Engine(tiny_model()).generate(prompt, max_new_tokens=2)


def test_bytes_are_not_token_ids() -> None:
    """Guards against bytes, a sequence of ints, whose every byte is taken for a token."""
    with pytest.raises(PromptError):
        text_engine().generate(b"the", max_new_tokens=2)


def test_empty_prompt_is_called_empty() -> None:
    """Guards against an empty list of ids taken for an empty chat, which needs a tokenizer."""
    with pytest.raises(PromptError, match="empty"):
        tiny_engine().generate([], max_new_tokens=2)


def test_chat_without_a_template() -> None:
    """Guards against a message of transformers where ours could say what to do."""
    engine = text_engine()
    template = engine.tokenizer.chat_template
    engine.tokenizer.chat_template = None
    try:
        with pytest.raises(PromptError, match="no chat template"):
            engine.generate(MESSAGES, max_new_tokens=2)
    finally:
        engine.tokenizer.chat_template = template


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 2.0),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("seed", 2**64),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("logprobs", -1),
    ],
)
def test_option_out_of_range(option: str, value: object) -> None:
    """Guards against a bad option that is only met in the middle of a generation."""
    with pytest.raises(ConfigError, match=option):
        tiny_engine().generate([1], **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 2.5),
        ("max_new_tokens", "3"),
        ("seed", 1.5),
        ("seed", None),
        ("top_k", 2.5),
        ("stop", (1,)),
        ("logprobs", True),
        ("logprobs", 1.5),
    ],
)
def test_option_of_a_wrong_type(option: str, value: object) -> None:
    """Guards against a raw TypeError from deep inside, or a value that is quietly rounded."""
    with pytest.raises(ConfigError, match=option):
        tiny_engine().generate([1], **{"max_new_tokens": 2, "temperature": 0.5, option: value})


def test_stop_string_without_a_tokenizer() -> None:
    """Guards against a stop string that is accepted and never looked for."""
    with pytest.raises(ConfigError, match="stop"):
        tiny_engine().generate([1], stop="the end", max_new_tokens=2)


@pytest.mark.parametrize("draft", ["fast", {}, SkipSet(), 3])
def test_unknown_draft(draft: object) -> None:
    """Guards against a misspelt draft that is taken for some default."""
    with pytest.raises(ConfigError, match="draft"):
        tiny_engine().generate([1], draft=draft, max_new_tokens=2)
    with pytest.raises(ConfigError, match="draft"):
        Engine(tiny_engine().target.model, draft=draft)


def test_skip_set_that_does_not_fit_fails_at_once() -> None:
    """Guards against a bad skip set that only the first request finds."""
    with pytest.raises(SkipSetError, match="layer 4"):
        Engine(tiny_model(), draft=DraftConfig(skip_set=SkipSet(mlp=(4,))))


def test_unsupported_models() -> None:
    """Guards against a model without a head, or with an encoder, that is decoded as it may."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with pytest.raises(UnsupportedModelError, match="AutoModelForCausalLM"):
        Engine(LlamaModel(LlamaConfig(**sizes, intermediate_size=32)))
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        Engine(T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=32, d_ff=32, d_kv=16)))


def test_result_is_complete_and_plain() -> None:
    """Guards against a result that cannot be written as JSON, or lacks a field."""
    result = text_engine().generate("the", draft=TREE, max_new_tokens=5, logprobs=2)
    document = json.loads(json.dumps(result.as_dict()))
    assert document["token_ids"] == list(result.token_ids)
    assert document["finish_reason"] == "length"
    assert len(document["logprobs"]) == 5
    assert len(document["logprobs"][0]["top"]) == 2
    assert document["stats"]["num_new_tokens"] == 5
    assert document["stats"]["num_prompt_tokens"] == len(text_engine().tokenizer("the").input_ids)
    assert tiny_engine().generate([1], max_new_tokens=2).logprobs is None


def test_draft_of_a_request_overrides_that_of_the_engine() -> None:
    """Guards against `draft=` that is ignored."""
    engine = Engine(tiny_model(), draft="off")
    assert engine.generate([5, 9], max_new_tokens=8).stats.num_drafted == 0
    assert engine.generate([5, 9], max_new_tokens=8, draft=TREE).stats.num_drafted > 0
    assert engine.generate([5, 9], max_new_tokens=8, draft="auto").stats.num_drafted > 0


def test_logits_processors_see_every_prefix() -> None:
    """Guards against a processor that is shown one prefix for all nodes of a tree."""
    script = Script(4, make_prompt(12, seed=5))
    for draft in ("off", TREE, DRAFTS["wide tree"]):
        result = tiny_engine().generate(
            make_prompt(4), draft=draft, max_new_tokens=12, logits_processors=[script]
        )
        assert result.token_ids == tuple(make_prompt(12, seed=5))


def test_end_tokens_of_the_model_go_before_the_tokenizers() -> None:
    """Guards against an output that ends at a token which only the tokenizer calls an end."""
    tokenizer = text_engine().tokenizer
    own = Engine(tiny_model(vocab_size=len(tokenizer), eos_token_id=[5, 6]), tokenizer)
    assert own.eos_token_ids == {5, 6}
    assert Engine(tiny_model(vocab_size=len(tokenizer)), tokenizer).eos_token_ids == {0}
    assert Engine(tiny_model()).eos_token_ids == frozenset()


def test_a_stop_string_that_is_a_special_token() -> None:
    """Guards against a stop that no text can show: eight tokens and no word."""
    engine = text_engine()
    mark = engine.tokenizer.convert_tokens_to_ids("<mark>")
    for draft in ("off", TREE):
        result = engine.generate(
            "the",
            draft=draft,
            stop="<mark>",
            max_new_tokens=8,
            logits_processors=[Script(1, [mark] * 8)],
        )
        assert (result.token_ids, result.text, result.finish_reason) == ((mark,), "", "stop")


def test_the_end_of_a_turn_ends_a_chat() -> None:
    """Guards against an answer that runs on into the user's next turn."""
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}<mark>{% endfor %}"
    )
    engine = Engine(text_engine().target.model, tokenizer)
    mark, letter = tokenizer.convert_tokens_to_ids(["<mark>", "a"])
    for prompt, length, reason in (
        ([{"role": "user", "content": "the"}], 2, "eos"),
        ("the", 4, "length"),  # a text has no turns
    ):
        start = 2 if reason == "eos" else 1
        script = Script(start, [letter, mark, letter, letter])
        result = engine.generate(prompt, logits_processors=[script], max_new_tokens=4)
        assert (len(result.token_ids), result.finish_reason) == (length, reason)
        assert result.text == ("a" if reason == "eos" else "aaa")


def test_output_is_decoded_behind_a_text_and_not_behind_a_chat() -> None:
    """Guards against words that stick together, and answers that begin with a space."""
    tokenizer = copy.deepcopy(framing_tokenizer())
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    engine = Engine(tiny_model(vocab_size=len(tokenizer)), tokenizer)
    world = tokenizer.convert_tokens_to_ids("\u2581world")
    for prompt, expected in (
        ("the", " world"),
        ([0, 4], " world"),
        ([{"role": "user", "content": "the"}], "world"),
    ):
        length = 2 if not isinstance(prompt[0], dict) else 1
        script = Script(length, [world])
        result = engine.generate(prompt, logits_processors=[script], max_new_tokens=1)
        assert result.text == expected


@pytest.mark.parametrize("temperature", [1e-38, 1e-300, 9e-7])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    """Guards against logits that overflow, of which the first infinite one is taken."""
    for draft in ("off", TREE):
        options = {"draft": draft, "max_new_tokens": 12, "seed": 3}
        greedy = tiny_engine().generate(make_prompt(9), **options)
        cold = tiny_engine().generate(make_prompt(9), temperature=temperature, **options)
        assert cold.token_ids == greedy.token_ids


def test_numbers_that_overflow_are_an_error() -> None:
    """Guards against the first token that is no number taken for the model's choice."""
    model = tiny_model()
    engine = Engine(model)
    with torch.no_grad():
        model.lm_head.weight[7].fill_(float("inf"))
    with pytest.raises(UnsupportedModelError, match="not finite in torch.float32"):
        engine.generate(make_prompt(9), max_new_tokens=4)


def test_public_names() -> None:
    """Guards against a public name that appears or disappears unnoticed."""
    assert selfdraft.__all__ == [
        "DraftConfig",
        "Engine",
        "Generation",
        "Piece",
        "Result",
        "SelfdraftError",
        "SkipSet",
        "__version__",
        "custom_generate",
    ]
    assert all(hasattr(selfdraft, name) for name in selfdraft.__all__)
