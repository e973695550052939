"""Packed linears: the same bits, plain weights when asked for, and nothing shared is packed."""

import copy
from pathlib import Path

import pytest
import torch
from tiny_models import DRAFTS, PROMPT, make_prompt, tiny_model, transformers_greedy
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from selfdraft import Engine
from selfdraft.model.kernels import tile_linear
from selfdraft.model.kernels.packing import (
    PackedLinear,
    pack_linears,
    unpack_linears,
    unpacked_weight,
)

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU packs nothing"
)


@pytest.fixture
def no_tile_linears(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without AMX: with it, a target reads its weights as they are."""
    monkeypatch.setattr(tile_linear, "_kernel", lambda: None)


def packed_model(**overrides: object) -> PreTrainedModel:
    model = tiny_model(dtype=torch.bfloat16, **overrides)
    pack_linears(model)
    return model


def num_packed(model: nn.Module) -> int:
    return sum(isinstance(part, PackedLinear) for part in model.modules())


def logits(model: PreTrainedModel, num_tokens: int = 9) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([make_prompt(num_tokens)])).logits


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("num_tokens", [1, 2, 40])
def test_logits_have_the_same_bits(family: str, num_tokens: int) -> None:
    """Guards against a bias that is lost, and a layout with another order of sums."""
    model = tiny_model(family, dtype=torch.bfloat16)
    expected = logits(model, num_tokens)
    pack_linears(model)
    assert num_packed(model) == 5 * 7 + 1
    assert torch.equal(logits(model, num_tokens), expected)


def test_saved_as_if_it_were_plain(tmp_path: Path) -> None:
    """Guards against a packed model that can be saved but not loaded."""
    model = packed_model()
    expected = tiny_model(dtype=torch.bfloat16).state_dict()
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    reloaded_state = reloaded.state_dict()
    assert all(torch.equal(reloaded_state[name], expected[name]) for name in expected)


def test_loads_plain_weights() -> None:
    """Guards against `load_state_dict` that leaves the old packed weights in place."""
    model, other = packed_model(), tiny_model(dtype=torch.bfloat16, seed=1)
    model.load_state_dict(other.state_dict())
    assert torch.equal(logits(model), logits(other))


def test_unpacking_restores_the_model() -> None:
    """Guards against a way back that forgets weights or biases."""
    model = packed_model(family="qwen2")
    expected = logits(model)
    unpack_linears(model)
    assert num_packed(model) == 0
    assert torch.equal(logits(model), expected)


def test_a_deep_copy_has_weights_of_its_own() -> None:
    """Guards against planted targets whose redundant layers change the real ones."""
    model = packed_model()
    twin = copy.deepcopy(model)
    linear = twin.model.layers[1].mlp.down_proj
    assert isinstance(linear, PackedLinear)
    assert torch.equal(logits(twin), logits(model))
    linear.load_state_dict({"weight": torch.zeros_like(unpacked_weight(linear))})
    assert not torch.equal(logits(twin), logits(model))


def test_a_tied_head_stays_plain() -> None:
    """Guards against a packed copy of the embedding: memory that nobody agreed to."""
    model = packed_model(tie_word_embeddings=True)
    assert type(model.lm_head) is nn.Linear
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert num_packed(model) == 5 * 7


def test_float32_and_hooked_linears_stay_plain() -> None:
    """Guards against hooks that are lost with the linear that they were registered on."""
    model = tiny_model()
    pack_linears(model)
    assert num_packed(model) == 0
    model = tiny_model(dtype=torch.bfloat16)
    model.lm_head.register_forward_hook(lambda *_: None)
    pack_linears(model)
    assert type(model.lm_head) is nn.Linear


def test_a_model_of_the_user_is_not_touched(no_tile_linears: None) -> None:
    """Guards against packing what the user loaded, unless it is asked for."""
    model = tiny_model(dtype=torch.bfloat16)
    Engine(model)
    assert num_packed(model) == 0
    Engine(model, pack=True)
    assert num_packed(model) > 0


def test_transformers_generates_with_a_packed_model() -> None:
    """Guards against a target that only selfdraft can run."""
    model = tiny_model(dtype=torch.bfloat16)
    expected = transformers_greedy(model, PROMPT, 12)
    pack_linears(model)
    assert transformers_greedy(model, PROMPT, 12) == expected


@pytest.mark.parametrize("draft", ["chain", "tree", "attention skipped"])
def test_packed_and_plain_engines_write_the_same_bits(no_tile_linears: None, draft: str) -> None:
    """Guards against drafts and certificates that need plain weights."""
    plain, packed = (Engine(tiny_model(dtype=torch.bfloat16), pack=pack) for pack in (False, True))
    assert packed.target.is_bit_exact
    assert packed.target.layers == plain.target.layers
    results = [
        engine.generate(make_prompt(9), draft=mode, max_new_tokens=16, logprobs=2)
        for engine in (plain, packed)
        for mode in ("off", DRAFTS[draft])
    ]
    assert all(r.token_ids == results[0].token_ids for r in results)


def test_a_model_that_reads_a_weight_by_itself_is_unpacked(no_tile_linears: None) -> None:
    """Guards against an engine that cannot be loaded because packing broke the model's code."""
    model = tiny_model(dtype=torch.bfloat16)
    mlp = model.model.layers[2].mlp
    plain_forward = type(mlp).forward

    class Peeking(type(mlp)):  # type: ignore[misc]
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return plain_forward(self, hidden) + 0 * (hidden @ self.gate_proj.weight.T)[..., :64]

    mlp.__class__ = Peeking
    Engine(model, pack=True)
    assert num_packed(model) == 0
