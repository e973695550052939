"""Every model is either refused when the engine is made, or decoded exactly."""

import pytest
import torch
from decoding_runs import decode
from tiny_models import make_prompt, transformers_greedy
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from selfdraft import DraftConfig, Engine
from selfdraft.errors import UnsupportedModelError

SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}

FAMILIES: dict[str, dict[str, object]] = {
    "arcee": {},
    "deepseek_v3": {
        "q_lora_rank": 32,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 64,
    },
    "doge": {},
    "ernie4_5": {"head_dim": 32},
    "gemma": {"head_dim": 32},
    "gemma2": {"head_dim": 32, "sliding_window": 4},
    "gemma3_text": {"head_dim": 32, "sliding_window": 4},
    "glm": {"head_dim": 32},
    "gpt2": {},
    "gpt_neox": {},
    "gpt_oss": {"head_dim": 32, "sliding_window": 4, "num_local_experts": 4},
    "granite": {},
    "minimax": {"head_dim": 32},
    "lfm2": {},
    "mistral": {"sliding_window": 4},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "qwen3": {"head_dim": 32},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    "seed_oss": {"head_dim": 32},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": None},
}

DRAFT = DraftConfig(
    skip_ratio=0.5, stop_confidence=0.0, max_draft_steps=4, sibling_counts=((1.0, 3),)
)


def make_model(name: str) -> PreTrainedModel:
    config = CONFIG_MAPPING[name](**{**SIZES, **FAMILIES[name]})
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, token, None)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_refused_or_exact(name: str) -> None:
    """Guards against a model whose layers look plain and are not: it must not be decoded wrongly,
    and it must not fail in the first request, far from where it was accepted.
    """
    model = make_model(name)
    prompt = make_prompt(10)
    expected = transformers_greedy(model, prompt, 16)
    try:
        engine = Engine(model)
    except UnsupportedModelError:
        return
    for draft in ("off", DRAFT):
        run = decode(engine, prompt, draft, max_new_tokens=16)
        assert run.sink.token_ids == expected
