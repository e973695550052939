"""selfdraft inside transformers' `generate`."""

import functools
from collections.abc import Callable

import pytest
import torch
from cache_name import CACHE
from tiny_models import DRAFTS, TREE, make_prompt, text_engine, tiny_engine, tiny_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    EosTokenCriteria,
    GenerationConfig,
    GPT2Config,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    StaticCache,
    StoppingCriteria,
    StoppingCriteriaList,
    SynthIDTextWatermarkingConfig,
    TextStreamer,
)
from transformers.generation import GenerateDecoderOnlyOutput
from transformers.generation.streamers import BaseStreamer

from selfdraft import DraftConfig, SkipSet, custom_generate
from selfdraft.errors import ConfigError, SelfdraftWarning

PROMPT = torch.tensor([make_prompt(6)])
PERFECT = DraftConfig.chain(5, skip_set=SkipSet())


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_engine().target.model


def ours(
    model: PreTrainedModel, draft: DraftConfig | str = TREE, /, **options: object
) -> Tensor | GenerateDecoderOnlyOutput:
    """`model.generate` with our decoding method in it."""
    options = {"do_sample": False, "max_new_tokens": 12, **options}
    return model.generate(PROMPT, custom_generate=custom_generate, draft=draft, **options)


def theirs(model: PreTrainedModel, **options: object) -> Tensor:
    return model.generate(PROMPT, **{"do_sample": False, "max_new_tokens": 12, **options})


@pytest.mark.parametrize("draft", ["auto", "off", *DRAFTS.values()], ids=["auto", "off", *DRAFTS])
def test_same_as_greedy_generate(model: PreTrainedModel, draft: DraftConfig | str) -> None:
    """Guards against a bridge that decodes in its own way."""
    sequences = ours(model, draft)
    assert torch.equal(sequences, theirs(model))
    assert sequences.dtype == PROMPT.dtype


# Options that change this output, each made from the tokens that are written without it.
EFFECTIVE: dict[str, Callable[[list[int]], dict[str, object]]] = {
    "repetition_penalty": lambda written: {"repetition_penalty": 5.0},
    "no_repeat_ngram_size": lambda written: {"no_repeat_ngram_size": 1},
    "bad_words_ids": lambda written: {"bad_words_ids": [written[1:2], written[3:5]]},
    "min_new_tokens": lambda written: {"min_new_tokens": 8, "eos_token_id": written[2]},
    "forced_eos_token_id": lambda written: {"forced_eos_token_id": 7},
    "suppress_tokens": lambda written: {"suppress_tokens": written[4:6]},
    "sequence_bias": lambda written: {"sequence_bias": {(written[1], written[2]): -50.0}},
    "prefix_allowed_tokens_fn": lambda written: {
        "prefix_allowed_tokens_fn": lambda batch, ids: [int(ids[-1] + 1) % 96, 3]
    },
    "max_length": lambda written: {"max_new_tokens": None, "max_length": 9},
    "eos_token_id": lambda written: {"eos_token_id": written[5]},
    "several end tokens": lambda written: {"eos_token_id": torch.tensor([written[5], 95])},
}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_options_that_work(model: PreTrainedModel, name: str) -> None:
    """Guards against an option of `generate` that is accepted and does nothing, or misfires when
    several nodes of a tree are processed at once.
    """
    plain = theirs(model)
    options = EFFECTIVE[name](plain[0, PROMPT.shape[1] :].tolist())
    expected = theirs(model, **options)
    assert not torch.equal(expected, plain)
    for draft in (TREE, PERFECT):
        assert torch.equal(ours(model, draft, **options), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"max_time": 100.0},
        {"use_cache": False},
        {"attention_mask": torch.ones_like(PROMPT)},
        {CACHE: None},
        {"cache_implementation": "static"},
        {"position_ids": torch.arange(PROMPT.shape[1])[None]},
        {"prompt_lookup_num_tokens": 3},
    ],
    ids=lambda options: ",".join(options),
)
def test_options_that_need_not_do_anything(
    model: PreTrainedModel, options: dict[str, object]
) -> None:
    """Guards against options that are refused though nothing depends on them here."""
    assert torch.equal(ours(model, **options), theirs(model, **options))


def test_own_logits_processors(model: PreTrainedModel) -> None:
    """Guards against processors given by the caller that are not applied."""
    processors = LogitsProcessorList([NoRepeatNGramLogitsProcessor(1)])
    sequences = ours(model, logits_processor=processors)
    assert torch.equal(sequences, theirs(model, logits_processor=processors))
    assert len(set(sequences[0].tolist())) == sequences.shape[1]


def first_new_token_at(model: PreTrainedModel, index: int) -> int:
    """A token that greedy decoding writes at `index` and not before."""
    written = theirs(model, max_new_tokens=24)[0, PROMPT.shape[1] :].tolist()
    return next(token for i, token in enumerate(written) if i >= index and token not in written[:i])


@pytest.mark.parametrize("draft", [TREE, PERFECT], ids=["tree", "perfect"])
def test_end_token_of_the_call_replaces_that_of_the_model(draft: DraftConfig) -> None:
    """Guards against the model's own end token that still ends a call with another one."""
    plain = tiny_engine().target.model
    early, late = first_new_token_at(plain, 2), first_new_token_at(plain, 6)
    model = tiny_model(eos_token_id=early)
    for end in (early, late, [late, early]):
        sequences = ours(model, draft, eos_token_id=end, max_new_tokens=24)
        assert torch.equal(sequences, theirs(model, eos_token_id=end, max_new_tokens=24))


def test_generation_config_is_used(model: PreTrainedModel) -> None:
    """Guards against options that arrive only as keyword arguments."""
    end = first_new_token_at(model, 3)
    config = GenerationConfig(max_new_tokens=20, do_sample=False, eos_token_id=end, pad_token_id=0)
    sequences = model.generate(PROMPT, generation_config=config, custom_generate=custom_generate)
    assert torch.equal(sequences, model.generate(PROMPT, generation_config=config))
    assert sequences[0, -1] == end


class _After(StoppingCriteria):
    """Ends a sequence at a given length, and keeps the lengths it was asked about."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.seen: list[int] = []

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        self.seen.append(input_ids.shape[1])
        return torch.tensor([input_ids.shape[1] >= self._length])


@pytest.mark.parametrize("draft", [TREE, PERFECT], ids=["tree", "perfect"])
def test_stopping_criteria(model: PreTrainedModel, draft: DraftConfig) -> None:
    """Guards against a criterion that is asked once a round instead of once a token."""
    after = _After(11)
    sequences = ours(model, draft, stopping_criteria=StoppingCriteriaList([after]))
    assert after.seen == [7, 8, 9, 10, 11]
    assert torch.equal(sequences, theirs(model, max_new_tokens=5))
    end = StoppingCriteriaList([EosTokenCriteria(first_new_token_at(model, 4))])
    expected = theirs(model, stopping_criteria=end, pad_token_id=0)
    assert torch.equal(ours(model, draft, stopping_criteria=end), expected)


def test_sampling_obeys_torch_manual_seed(model: PreTrainedModel) -> None:
    """Guards against a seed drawn elsewhere, and against a draft that changes the sample."""

    def sample(draft: DraftConfig | str, seed: int) -> list[int]:
        torch.manual_seed(seed)
        options = {"do_sample": True, "temperature": 1.3, "top_k": 30, "top_p": 0.95}
        return ours(model, draft, **options)[0].tolist()

    assert sample("off", 1) == sample(TREE, 1) == sample(PERFECT, 1)
    assert len({tuple(sample(TREE, seed)) for seed in range(4)}) == 4


def test_successive_samples_differ(model: PreTrainedModel) -> None:
    """Guards against a bridge that samples the same text on every call."""
    torch.manual_seed(0)
    options = {"do_sample": True, "temperature": 1.5}
    assert ours(model, **options).tolist() != ours(model, **options).tolist()


def test_sampling_filters_are_those_of_transformers(model: PreTrainedModel) -> None:
    """Guards against warpers of `generate` that do not reach the choice."""
    for seed in range(3):
        torch.manual_seed(seed)
        sequences = ours(model, PERFECT, do_sample=True, temperature=9.0, top_k=1)
        assert torch.equal(sequences, theirs(model))


class _Listener(BaseStreamer):
    def __init__(self) -> None:
        self.heard: list[list[int]] = []
        self.has_ended = False

    def put(self, value: Tensor) -> None:
        assert not self.has_ended
        self.heard.append(value.flatten().tolist())

    def end(self) -> None:
        self.has_ended = True


def generate_with(model: PreTrainedModel, method: Callable[..., object], num: int = 9) -> Tensor:
    return model.generate(PROMPT, do_sample=False, max_new_tokens=num, custom_generate=method)


@pytest.mark.parametrize("draft", [TREE, PERFECT], ids=["tree", "perfect"])
def test_streamer_hears_what_it_would_hear_from_generate(
    model: PreTrainedModel, draft: DraftConfig
) -> None:
    """Guards against a streamer that misses the prompt, gets tokens in lumps, or never ends."""
    mine, other = _Listener(), _Listener()
    generate_with(model, functools.partial(custom_generate, streamer=mine, draft=draft))
    theirs(model, streamer=other, max_new_tokens=9)
    assert mine.heard == other.heard
    assert len(mine.heard) == 10
    assert mine.has_ended


def test_text_streamer(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against the example in the documentation."""
    engine = text_engine()
    streamer = TextStreamer(engine.tokenizer, skip_prompt=True)
    sequences = generate_with(
        engine.target.model, functools.partial(custom_generate, streamer=streamer)
    )
    text = engine.tokenizer.decode(sequences[0, PROMPT.shape[1] :])
    assert capsys.readouterr().out.strip() == text.strip()


def test_stop_strings() -> None:
    """Guards against stop strings that are dropped together with the tokenizer."""
    engine = text_engine()
    model, tokenizer = engine.target.model, engine.tokenizer
    written = theirs(model)[0, PROMPT.shape[1] :].tolist()
    stop = next(t for t in map(tokenizer.decode, written[3:]) if t.isascii() and t.strip())
    options = {"do_sample": False, "max_new_tokens": 12, "stop_strings": stop}
    expected = model.generate(PROMPT, tokenizer=tokenizer, **options)
    assert expected.shape[1] < PROMPT.shape[1] + 12
    bound = functools.partial(custom_generate, tokenizer=tokenizer, draft=PERFECT)
    assert torch.equal(model.generate(PROMPT, custom_generate=bound, **options), expected)


def test_dictionary_result(model: PreTrainedModel) -> None:
    """Guards against `return_dict_in_generate` that is ignored."""
    output = ours(model, return_dict_in_generate=True)
    assert isinstance(output, GenerateDecoderOnlyOutput)
    assert torch.equal(output.sequences, theirs(model))


def filled_cache() -> DynamicCache:
    cache = DynamicCache()
    cache.update(torch.zeros(1, 2, 2, 32), torch.zeros(1, 2, 2, 32), 0)
    return cache


def static_cache() -> StaticCache:
    return StaticCache(config=tiny_engine().target.model.config, max_cache_len=32)


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
def test_a_filled_cache_under_the_older_name(model: PreTrainedModel) -> None:
    """Guards against a cache whose rows are ignored because of how the argument is spelled."""
    with pytest.raises(ConfigError, match="not empty"):
        ours(model, past_key_values=filled_cache())


@pytest.mark.parametrize("draft", [TREE, PERFECT, "off"], ids=["tree", "perfect", "off"])
def test_an_empty_cache_is_filled(model: PreTrainedModel, draft: DraftConfig | str) -> None:
    """Guards against a cache that a caller finds as empty as it was given."""
    mine, other = DynamicCache(), DynamicCache()
    output = ours(model, draft, **{CACHE: mine}, return_dict_in_generate=True)
    theirs(model, **{CACHE: other})
    assert getattr(output, CACHE) is mine
    assert mine.get_seq_length() == other.get_seq_length() == PROMPT.shape[1] + 11
    for layer, expected in zip(mine.layers, other.layers, strict=True):
        torch.testing.assert_close(layer.keys, expected.keys)
        torch.testing.assert_close(layer.values, expected.values)


def test_a_cache_of_windows_is_filled() -> None:
    """Guards against layers that keep their last rows only and get all of them."""
    model = tiny_model("mistral", sliding_window=5)
    mine, other = (DynamicCache(config=model.config) for _ in range(2))
    ours(model, **{CACHE: mine})
    theirs(model, **{CACHE: other})
    for layer, expected in zip(mine.layers, other.layers, strict=True):
        torch.testing.assert_close(layer.keys, expected.keys)


def test_criteria_get_the_scores_that_generate_would_give(model: PreTrainedModel) -> None:
    """Guards against a criterion that works here and fails in `generate`, or the other way."""
    given: list[object] = []

    class _Scores(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
            given.append(scores)
            return torch.tensor([False])

    for method in (ours, theirs):
        method(model, stopping_criteria=StoppingCriteriaList([_Scores()]), max_new_tokens=2)
    assert given == [None] * 4


def test_a_text_beyond_the_context_is_told_of(model: PreTrainedModel) -> None:
    """Guards against a text that ends early without a word."""
    small = tiny_model(max_position_embeddings=16)
    with pytest.warns(SelfdraftWarning, match="may have 36 tokens .* maximum length is 16"):
        sequences = ours(small, max_new_tokens=30)
    assert sequences.shape[1] == 16


def test_an_option_that_nobody_has_looked_at(model: PreTrainedModel) -> None:
    """Guards against what a newer version of transformers adds and we would ignore."""
    config = GenerationConfig(max_new_tokens=2, do_sample=False)
    config.sparkle = 0.5
    with pytest.raises(ConfigError, match="sparkle"):
        model.generate(PROMPT, generation_config=config, custom_generate=custom_generate)


@pytest.mark.parametrize("name", ["position_ids", "token_type_ids"])
def test_positions_and_types_of_gpt2(name: str) -> None:
    """Guards against another text than `generate` writes, found on this model."""
    model = AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=96, n_embd=64, n_layer=3, n_head=4, n_positions=64, eos_token_id=None)
    ).eval()
    ids = {"position_ids": torch.arange(40, 46)[None], "token_type_ids": torch.ones_like(PROMPT)}
    with pytest.raises(ConfigError, match=name):
        ours(model, **{name: ids[name]})
    assert torch.equal(ours(model), theirs(model))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("num_beams", {"num_beams": 2}),
        ("num_return_sequences", {"num_return_sequences": 2, "do_sample": True}),
        ("output_scores", {"output_scores": True, "return_dict_in_generate": True}),
        ("output_logits", {"output_logits": True, "return_dict_in_generate": True}),
        ("output_attentions", {"output_attentions": True, "return_dict_in_generate": True}),
        ("output_hidden_states", {"output_hidden_states": True, "return_dict_in_generate": True}),
        ("penalty_alpha", {"penalty_alpha": 0.6, "top_k": 4}),
        ("attention_mask", {"attention_mask": torch.tensor([[0, 1, 1, 1, 1, 1]])}),
        ("attention_mask", {"attention_mask": torch.ones(1, 4, dtype=torch.long)}),
        ("position_ids", {"position_ids": torch.arange(40, 46)[None]}),
        ("not empty", {CACHE: filled_cache()}),
        ("StaticCache", {CACHE: static_cache()}),
        ("dola_layers", {"dola_layers": "high"}),
        ("is_assistant", {"is_assistant": True}),
        ("stop_strings", {"stop_strings": "a"}),
        ("guidance_scale", {"guidance_scale": 1.5}),
        (
            "watermark",
            {
                "watermarking_config": SynthIDTextWatermarkingConfig(keys=[1, 2, 3], ngram_len=3),
                "do_sample": True,
            },
        ),
    ],
)
def test_unsupported_option_is_named(
    model: PreTrainedModel, name: str, options: dict[str, object]
) -> None:
    """Guards against an option that is accepted and makes the output wrong: among them processors
    with a memory of their own, which a tree of tokens would confuse.
    """
    with pytest.raises(ConfigError, match=name):
        ours(model, **options)


def test_several_sequences(model: PreTrainedModel) -> None:
    """Guards against a batch of which only the first sequence is continued."""
    with pytest.raises(ConfigError, match="several sequences"):
        model.generate(
            PROMPT.repeat(2, 1), custom_generate=custom_generate, do_sample=False, max_new_tokens=2
        )


def test_prompt_as_embeddings(model: PreTrainedModel) -> None:
    """Guards against embeddings that are silently replaced by nothing."""
    embeddings = model.get_input_embeddings()(PROMPT)
    options = {"do_sample": False, "max_new_tokens": 2}
    with pytest.raises(ConfigError, match="inputs_embeds"):
        model.generate(inputs_embeds=embeddings, custom_generate=custom_generate, **options)
