"""Tiny seeded models and a tiny tokenizer, built in milliseconds and never downloaded.

Weights are large, so that the output is varied; the layers between the first and the last are
damped, so that a draft that skips them is right sometimes and wrong sometimes.
"""

import functools
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from selfdraft import DraftConfig, Engine, SkipSet

VOCAB_SIZE = 96
NUM_LAYERS = 5
ELIGIBLE = tuple(range(1, NUM_LAYERS - 1))
EVERYTHING = SkipSet(ELIGIBLE, ELIGIBLE)
FAMILIES: dict[str, type[PretrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
}

TREE = DraftConfig(stop_confidence=0.2, max_draft_steps=6, sibling_counts=((0.5, 4), (1.0, 2)))
WIDE = DraftConfig(stop_confidence=0.0, max_draft_steps=4, sibling_counts=((1.0, 9),))
DRAFTS: dict[str, DraftConfig] = {
    "swift": DraftConfig(),
    "chain": DraftConfig.chain(4),
    "tree": TREE,
    "wide tree": WIDE,
    "nothing skipped": DraftConfig.chain(3, skip_set=SkipSet()),
    "everything skipped": DraftConfig(
        skip_set=EVERYTHING, stop_confidence=0.0, max_draft_steps=5, sibling_counts=((1.0, 3),)
    ),
    "attention skipped": DraftConfig.chain(5, skip_set=SkipSet(attention=ELIGIBLE)),
}
"""Good drafts, bad drafts, chains and trees."""

PROMPT = (5, 9, 3, 44, 12)


def tiny_model(
    family: str | type[PretrainedConfig] = "llama",
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    eos_token_id: int | list[int] | None = None,
    damping: float = 0.4,
    **overrides: object,
) -> PreTrainedModel:
    """A randomly initialised model of `family`.

    Every linear has more than 2,048 weights: oneDNN treats smaller ones differently (see
    `test_bits.py`).
    """
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "pad_token_id": None,
        "sliding_window": None,
    }
    config_class = FAMILIES[family] if isinstance(family, str) else family
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config_class(**{**sizes, **overrides}))
    with torch.no_grad():
        for layer in model.model.layers[1:-1]:
            for projection in (layer.self_attn.o_proj, getattr(layer.mlp, "down_proj", None)):
                if projection is not None:
                    projection.weight.mul_(damping)
    return model.to(dtype).eval()


@functools.cache
def tiny_engine(
    family: str = "llama",
    dtype: torch.dtype = torch.float32,
    eos_token_ids: tuple[int, ...] = (),
) -> Engine:
    """An engine of tokens, without a tokenizer; shared, because an engine is only read."""
    return Engine(tiny_model(family, dtype=dtype, eos_token_id=list(eos_token_ids) or None))


@functools.cache
def text_engine() -> Engine:
    """An engine with the byte-level tokenizer; its outputs are random bytes unless scripted."""
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    return Engine(model, tokenizer)


def make_prompt(length: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> list[int]:
    """`length` random token ids."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return torch.randint(vocab_size, (length,), generator=generator).tolist()


@functools.cache
def reference_output(
    family: str,
    dtype: torch.dtype,
    eos_token_ids: tuple[int, ...],
    prompt: tuple[int, ...],
    max_new_tokens: int,
) -> tuple[int, ...]:
    """What transformers' own greedy search writes after `prompt`."""
    model = tiny_engine(family, dtype, eos_token_ids).target.model
    return transformers_greedy(model, prompt, max_new_tokens)


def transformers_greedy(
    model: PreTrainedModel, prompt: Sequence[int], max_new_tokens: int
) -> tuple[int, ...]:
    """The new tokens of `model.generate(do_sample=False)`."""
    sequence = model.generate(
        torch.tensor([list(prompt)]), do_sample=False, max_new_tokens=max_new_tokens
    )
    return tuple(sequence[0, len(prompt) :].tolist())


_MERGES = ("t h", "th e", "Ġ the", "e r", "o n", "Ġ w", "l l", "Ã ©", "s t", "E N", "EN D")
_CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few merges, an end token, another special token, a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge.split(" ")) for merge in _MERGES]
    tokens = ["<end>", "<mark>", *alphabet, *("".join(merge) for merge in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", additional_special_tokens=["<mark>"]
    )
    fast.chat_template = _CHAT_TEMPLATE
    return fast


@functools.cache
def framing_tokenizer() -> PreTrainedTokenizerFast:
    """Words after SentencePiece's manner, which begins every text with BOS and ends it with EOS."""
    tokens = [
        "<bos>",
        "<eos>",
        "<unk>",
        "<mark>",
        "the",
        "\u2581the",
        "\u2581world",
        "\u2581",
        "world",
    ]
    tokenizer = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 0), ("<eos>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<mark>"],
    )
