"""Families of decoder-only models as tiny seeded models, and what selfdraft promises for each.

`test_matrix.py` and `test_refused.py` hold the code to these tables; `report.py` prints them as
docs/models.md. Windows and chunks are shorter than the texts of the tests. Most linears have over
2,048 weights, because oneDNN treats smaller ones differently (`exactness/test_bits.py`).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from selfdraft import Engine

VOCAB_SIZE = 96
NUM_LAYERS = 4
INNER_LAYERS = (1, 2)
PROMPT = (5, 9, 33, 17, 60, 21, 8, 44, 13, 77, 3)

# Every spelling at once: a config keeps the names that it knows.
_SIZES: Mapping[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "n_embd": 64,
    "n_layer": NUM_LAYERS,
    "n_head": 4,
    "n_positions": 128,
    "n_inner": 128,
}
_MPT_SIZES = {"d_model": 64, "n_heads": 4, "n_layers": NUM_LAYERS, "max_seq_len": 128}
_XGLM_SIZES = {"d_model": 64, "ffn_dim": 128, "num_layers": NUM_LAYERS, "attention_heads": 4}
_T5_SIZES = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_heads": 4}

_WINDOW = {"sliding_window": 5}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_SMALL_EXPERTS = {**_EXPERTS, "moe_intermediate_size": 64}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED_EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_LATENT_ATTENTION = {
    "q_lora_rank": 48,
    "kv_lora_rank": 48,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 32,
    "num_key_value_heads": 4,
}
_MIXED_WINDOWS = [
    "sliding_attention",
    "sliding_attention",
    "full_attention",
    "sliding_attention",
]
_OWN_ATTENTION = "its attention is code of its own"
_HAS_5_24 = Version(transformers.__version__) >= Version("5.24")
_SINCE_5_24 = f"before transformers 5.24 chains only: {_OWN_ATTENTION}"
_NOTHING_PASSED_ON = "its layers pass no arguments on to the attention"
_EXPERTS_NOTE = "experts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family that selfdraft decodes, or one of its variants."""

    model_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    sized_by_heads: bool = False
    """Whether its heads are hidden_size / num_heads wide, whatever `head_dim` says."""
    has_trees: bool = True
    is_split: bool = True
    """Whether attention and MLP may be skipped one without the other."""
    note: str = ""
    is_fast: bool = False
    """Whether it stays in the fast suite."""

    @property
    def has_experts(self) -> bool:
        """Whether tokens are sorted to experts."""
        return "expert" in f"{[*self.options]} {self.note}" or "moe" in self.model_type

    @property
    def name(self) -> str:
        """The family and its variant, as the page has it."""
        return f"{self.model_type} ({self.variant})" if self.variant else self.model_type

    @property
    def class_name(self) -> str:
        """The model's class in transformers."""
        return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[self.model_type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A family that selfdraft refuses, with what the error says."""

    model_type: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """The model's class in transformers."""
        names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        return names[self.model_type]


def _plain(*model_types: str) -> list[Family]:
    """Families that need no options beside the sizes."""
    return [Family(model_type=model_type) for model_type in model_types]


_DECODED: tuple[Family, ...] = (
    Family(model_type="llama", is_fast=True),
    Family(model_type="gpt2", is_fast=True),
    Family(
        model_type="gemma3_text",
        options={**_WINDOW, "query_pre_attn_scalar": 8, "layer_types": _MIXED_WINDOWS},
        note="sliding window in some layers",
        is_fast=True,
    ),
    Family(
        model_type="opt",
        options={"ffn_dim": 128, "word_embed_proj_dim": 64},
        note="the MLP is two modules of the layer",
        is_fast=True,
    ),
    Family(model_type="bloom", has_trees=False, note=f"ALiBi; {_OWN_ATTENTION}", is_fast=True),
    Family(model_type="mixtral", options=_LOCAL_EXPERTS, note=_EXPERTS_NOTE, is_fast=True),
    *_plain("apertus", "arcee", "biogpt", "cohere", "diffllama", "ernie4_5", "gemma", "glm"),
    *_plain("glm4", "gpt_bigcode", "gpt_neox", "granite", "hunyuan_v1_dense", "hyperclovax"),
    *_plain("internlm3", "jais2", "ministral3", "nanochat", "olmo", "olmo2", "phi", "qwen3"),
    *_plain("seed_oss", "smollm3"),
    Family(model_type="bitnet", sized_by_heads=True),
    Family(model_type="helium", options={"head_dim": 16, "num_key_value_heads": 4}),
    Family(model_type="persimmon", sized_by_heads=True),
    Family(model_type="ctrl", options={"dff": 128}),
    # Sliding windows and chunks.
    Family(
        model_type="llama4_text",
        options={
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 128,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 8,
            "no_rope_layers": [1, 1, 1, 0],
        },
        note="attention chunks in some layers; experts in some",
    ),
    Family(model_type="mistral", options=_WINDOW, note="sliding window"),
    Family(model_type="ministral", options=_WINDOW, note="sliding window"),
    Family(model_type="starcoder2", options=_WINDOW, note="sliding window"),
    Family(model_type="phi3", options=_WINDOW, note="sliding window"),
    Family(model_type="granite_swa", options=_WINDOW, note="sliding window"),
    Family(
        model_type="qwen2",
        options={**_WINDOW, "use_sliding_window": True, "max_window_layers": 2},
        note="sliding window in some layers",
    ),
    Family(
        model_type="gemma2",
        options={**_WINDOW, "query_pre_attn_scalar": 8},
        note="sliding window in some layers; soft-capping",
    ),
    Family(
        model_type="vaultgemma",
        options={**_WINDOW, "query_pre_attn_scalar": 8},
        note="sliding window in some layers; soft-capping",
    ),
    Family(
        model_type="gemma4_text",
        options={
            **_WINDOW,
            "vocab_size_per_layer_input": VOCAB_SIZE,
            "hidden_size_per_layer_input": 32,
            "global_head_dim": 32,
        },
        note="per-layer inputs; with a trained layer_scalar its layers always run",
    ),
    Family(model_type="cohere2", options=_WINDOW, note="sliding window in some layers"),
    Family(model_type="cwm", options=_WINDOW, note="sliding window in some layers"),
    Family(model_type="exaone4", options=_WINDOW, note="sliding window in some layers"),
    Family(model_type="olmo3", options=_WINDOW, note="sliding window in some layers"),
    Family(
        model_type="modernbert-decoder",
        options={"local_attention": 6},
        sized_by_heads=True,
        note="sliding window in some layers",
    ),
    # Experts.
    Family(
        model_type="qwen2_moe",
        options={**_SMALL_EXPERTS, "shared_expert_intermediate_size": 64},
        note=_EXPERTS_NOTE,
    ),
    Family(model_type="qwen3_moe", options=_SMALL_EXPERTS, note=_EXPERTS_NOTE),
    Family(model_type="granitemoe", options=_LOCAL_EXPERTS, note=_EXPERTS_NOTE),
    Family(
        model_type="granitemoeshared",
        options={**_LOCAL_EXPERTS, "shared_intermediate_size": 64},
        note="experts beside an MLP",
    ),
    Family(model_type="minimax_m2", options=_LOCAL_EXPERTS, note=_EXPERTS_NOTE),
    Family(model_type="phimoe", options=_LOCAL_EXPERTS, note=_EXPERTS_NOTE),
    Family(model_type="jetmoe", options={**_LOCAL_EXPERTS, "kv_channels": 32}, note=_EXPERTS_NOTE),
    Family(model_type="olmoe", options=_EXPERTS, sized_by_heads=True, note=_EXPERTS_NOTE),
    Family(model_type="flex_olmo", options=_EXPERTS, note=_EXPERTS_NOTE),
    Family(model_type="glm4_moe", options=_ROUTED_EXPERTS, note="experts in some layers"),
    Family(model_type="solar_open", options=_ROUTED_EXPERTS, note="experts in some layers"),
    Family(
        model_type="hunyuan_v1_moe",
        options={"num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 64},
        note=_EXPERTS_NOTE,
    ),
    Family(
        model_type="ernie4_5_moe",
        options={
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 64,
            "moe_layer_start_index": 1,
        },
        note="experts in some layers",
    ),
    Family(
        model_type="gpt_oss",
        options={**_LOCAL_EXPERTS, **_WINDOW},
        note="experts; sliding window in some layers; attention sinks",
    ),
    Family(
        model_type="afmoe",
        options={**_SMALL_EXPERTS, **_WINDOW},
        note="experts; sliding window in some layers",
    ),
    Family(
        model_type="exaone_moe",
        options={**_SMALL_EXPERTS, **_WINDOW},
        note="experts; sliding window in some layers",
    ),
    Family(
        model_type="cohere2_moe",
        options={**_EXPERTS, **_WINDOW},
        note="experts; sliding window in some layers",
    ),
    Family(
        model_type="dots1",
        options={**_ROUTED_EXPERTS, **_WINDOW},
        note="experts in some layers",
    ),
    Family(
        model_type="mimo_v2_flash",
        options={**_ROUTED_EXPERTS, **_WINDOW},
        note="experts; sliding window in some layers",
    ),
    # Latent attention: keys and values of different widths.
    Family(
        model_type="deepseek_v2",
        options={**_ROUTED_EXPERTS, **_LATENT_ATTENTION},
        sized_by_heads=True,
        note="latent attention; experts in some layers",
    ),
    Family(
        model_type="deepseek_v3",
        options={**_ROUTED_EXPERTS, **_LATENT_ATTENTION},
        sized_by_heads=True,
        note="latent attention; experts in some layers",
    ),
    Family(
        model_type="glm4_moe_lite",
        options={**_ROUTED_EXPERTS, **_LATENT_ATTENTION},
        note="latent attention; experts in some layers",
    ),
    Family(model_type="minicpm3", options=_LATENT_ATTENTION, note="latent attention"),
    Family(
        model_type="youtu",
        options=_LATENT_ATTENTION,
        sized_by_heads=True,
        note="latent attention",
    ),
    # Attention that transformers' interface does not reach.
    Family(model_type="codegen", options={"rotary_dim": 8}, has_trees=_HAS_5_24, note=_SINCE_5_24),
    Family(model_type="gptj", options={"rotary_dim": 8}, has_trees=_HAS_5_24, note=_SINCE_5_24),
    Family(model_type="doge", has_trees=False, note=_OWN_ATTENTION),
    Family(
        model_type="falcon",
        options={"multi_query": True, "parallel_attn": True},
        sized_by_heads=True,
        has_trees=False,
        note=_OWN_ATTENTION,
    ),
    Family(
        model_type="falcon",
        variant="new decoder",
        options={"new_decoder_architecture": True, "num_kv_heads": 2},
        sized_by_heads=True,
        has_trees=False,
        note=_OWN_ATTENTION,
    ),
    Family(
        model_type="falcon",
        variant="ALiBi",
        options={"alibi": True, "multi_query": False, "parallel_attn": False},
        sized_by_heads=True,
        has_trees=False,
        note=_OWN_ATTENTION,
    ),
    Family(
        model_type="gpt_neo",
        options={
            "attention_types": [[["global", "local"], 2]],
            "num_layers": NUM_LAYERS,
            "num_heads": 4,
            "window_size": 5,
        },
        has_trees=False,
        note=f"local attention in some layers; {_OWN_ATTENTION}",
    ),
    Family(
        model_type="gpt_neox_japanese",
        sized_by_heads=True,
        has_trees=False,
        note=_OWN_ATTENTION,
    ),
    Family(
        model_type="mpt",
        options={**_MPT_SIZES, "expansion_ratio": 2},
        has_trees=False,
        note=f"ALiBi; {_OWN_ATTENTION}",
    ),
    Family(model_type="nemotron", has_trees=False, note=_NOTHING_PASSED_ON),
    Family(
        model_type="stablelm",
        sized_by_heads=True,
        has_trees=False,
        note=_NOTHING_PASSED_ON,
    ),
    Family(model_type="xglm", options=_XGLM_SIZES, has_trees=False, note=_OWN_ATTENTION),
)

_NO_CACHE = "takes no cache of keys and values"
_STATE = "keeps a recurrent state"
_LINEAR = "layer 0 .* is of type linear_attention"
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16}

_REFUSED: tuple[Refused, ...] = (
    Refused(model_type="bamba", reason=_LINEAR, options={**_MAMBA, "attn_layer_indices": [1]}),
    Refused(
        model_type="bart",
        reason="is an encoder-decoder model",
        options={"d_model": 64, "encoder_layers": 2, "decoder_layers": 2},
    ),
    Refused(model_type="bert", reason="gives other logits when it continues from a cache"),
    Refused(
        model_type="cpmant",
        reason="gives other logits when it continues from a cache",
        options={"prompt_length": 2},
    ),
    Refused(
        model_type="falcon_h1",
        reason="layer 0 .* is of type hybrid",
        options={**_MAMBA, "mamba_d_ssm": 64, "mamba_n_heads": 4},
    ),
    Refused(model_type="falcon_mamba", reason=_LINEAR, options={"state_size": 4}),
    Refused(model_type="granitemoehybrid", reason=_LINEAR, options=_MAMBA),
    Refused(
        model_type="jamba",
        reason=_LINEAR,
        options={
            "num_experts": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "use_mamba_kernels": False,
        },
    ),
    Refused(
        model_type="lfm2",
        reason="layer 0 .* is of type conv",
        options={"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    ),
    Refused(model_type="mamba", reason=_LINEAR, options={"state_size": 4}),
    Refused(
        model_type="mamba2",
        reason=_LINEAR,
        options={"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1},
    ),
    Refused(
        model_type="minimax",
        reason="layer 1 .* is of type linear_attention",
        options=_LOCAL_EXPERTS,
    ),
    Refused(model_type="olmo_hybrid", reason=_LINEAR),
    Refused(model_type="openai-gpt", reason=_NO_CACHE),
    Refused(model_type="qwen3_5_text", reason=_LINEAR),
    Refused(model_type="qwen3_next", reason=_LINEAR, options=_SMALL_EXPERTS),
    Refused(model_type="recurrent_gemma", reason=_LINEAR),
    Refused(model_type="rwkv", reason=_STATE, options={"attention_hidden_size": 64}),
    Refused(model_type="t5", reason="is an encoder-decoder model", options=_T5_SIZES),
    Refused(model_type="xlm", reason="gives other logits when it continues from a cache"),
    Refused(model_type="xlstm", reason=_STATE),
    Refused(model_type="zamba", reason=_LINEAR),
    Refused(
        model_type="zamba2", reason=_LINEAR, options={"layers_block_type": ["mamba", "hybrid"] * 2}
    ),
)


_KNOWN = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
FAMILIES = tuple(family for family in _DECODED if family.model_type in _KNOWN)
REFUSED = tuple(family for family in _REFUSED if family.model_type in _KNOWN)
"""Those that the installed version of transformers has; the newest has all."""
IS_COMPLETE = len(FAMILIES) == len(_DECODED) and len(REFUSED) == len(_REFUSED)


def tiny(family: Family | Refused, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A seeded model of `family`, with weights so large that its output is varied."""
    sizes = {**_SIZES, **family.options}
    if isinstance(family, Family) and family.sized_by_heads:
        del sizes["head_dim"]
    config = AutoConfig.for_model(family.model_type, **sizes)
    torch.manual_seed(0)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_config(config).eval()
    scale_up(model)
    return model.to(dtype)


@torch.no_grad()
def scale_up(model: PreTrainedModel) -> None:
    """Give a model weights of which its choice of token depends strongly, and no end token."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.25)
    model.generation_config.eos_token_id = None


@functools.cache
def tiny_engine(name: str, dtype: torch.dtype = torch.float32) -> Engine:
    """An engine on the family called `name`; shared, because an engine is only read."""
    family = next(family for family in FAMILIES if family.name == name)
    return Engine(tiny(family, dtype))
