"""Models that a user loaded in a special way: weights elsewhere, or in few bits.

The quantised linear of these tests keeps buffers instead of a parameter, as those that
transformers' quantisers install. torchao's and quanto's own are in docs/experiments.md.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from accelerate.hooks import ModelHook, SequentialHook, add_hook_to_module
from decoding_runs import decode
from families import PROMPT
from tiny_models import ELIGIBLE, NUM_LAYERS, VOCAB_SIZE, tiny_model, transformers_greedy
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.cli.inspect.model_report import report_on
from selfdraft.errors import UnsupportedModelError
from selfdraft.model.target import Target

SOME = SkipSet((1,), (2,))
NUM_NEW_TOKENS = 12


def offload_to_cpu(model: PreTrainedModel, _: Path) -> None:
    cpu_offload(model, "cpu")


def offload_to_disk(model: PreTrainedModel, folder: Path) -> None:
    disk_offload(model, str(folder), "cpu")


def dispatch(model: PreTrainedModel, folder: Path) -> None:
    """As `from_pretrained(device_map=...)`: some layers stay, some go to the disk."""
    names = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    layers = {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(NUM_LAYERS)}
    device_map = dict.fromkeys(names, "cpu") | layers
    dispatch_model(model, device_map, "cpu", offload_dir=str(folder), force_hooks=True)


def offload_behind_another_hook(model: PreTrainedModel, _: Path) -> None:
    cpu_offload(model, "cpu")
    own = model.lm_head._hf_hook
    add_hook_to_module(model.lm_head, SequentialHook(ModelHook(), own))


every_offloading = pytest.mark.parametrize(
    "offload", [offload_to_cpu, offload_to_disk, dispatch, offload_behind_another_hook]
)


@every_offloading
def test_offloaded_models_are_decoded_as_others(offload: Any, tmp_path: Path) -> None:
    """Guards against copies whose `forward`, which accelerate replaced, runs the original.

    Its sublayers could then not be told apart, a draft would skip nothing, and attention would be
    the model's own. And against input for the meta device, where the weights seem to be.
    """
    model = tiny_model()
    expected = transformers_greedy(model, PROMPT, NUM_NEW_TOKENS)
    resident = decode(Engine(model), PROMPT, DraftConfig.chain(4, skip_set=SOME), max_new_tokens=12)
    offload(model, tmp_path)
    engine = Engine(model)
    assert engine.target.supports_trees
    assert engine.target.device == torch.device("cpu")
    assert engine.target.layers.eligible_alone == ELIGIBLE
    run = decode(engine, PROMPT, DraftConfig.chain(4, skip_set=SOME), max_new_tokens=NUM_NEW_TOKENS)
    assert run.sink.token_ids == expected
    assert 0 < run.state.stats.acceptance_rate < 1
    assert run.state.stats.acceptance_rate == resident.state.stats.acceptance_rate
    assert transformers_greedy(model, PROMPT, NUM_NEW_TOKENS) == expected, "the model still works"


@every_offloading
def test_learning_leaves_offloaded_weights_where_they_were(offload: Any, tmp_path: Path) -> None:
    """Guards against weights that a copy fetched and never let go of."""
    model = tiny_model()
    offload(model, tmp_path)
    places = {name: parameter.device for name, parameter in model.named_parameters()}
    assert torch.device("meta") in places.values()
    target = Target(model)
    decode(Engine(model), PROMPT, DraftConfig.chain(4, skip_set=SOME), max_new_tokens=4)
    for module in (model, target._module):
        assert {name: p.device for name, p in module.named_parameters()} == places


def test_offloading_keeps_the_bits() -> None:
    """Guards L2 where weights arrive for each pass anew."""
    model = tiny_model(dtype=torch.bfloat16)
    resident = decode(Engine(model), PROMPT, "off", max_new_tokens=NUM_NEW_TOKENS)
    cpu_offload(model, "cpu")
    engine = Engine(model)
    assert engine.target.is_bit_exact
    for draft in ("off", DraftConfig.chain(4, skip_set=SOME)):
        run = decode(engine, PROMPT, draft, max_new_tokens=NUM_NEW_TOKENS)
        assert torch.equal(run.sink.logits, resident.sink.logits)


def test_a_model_without_weights_is_refused() -> None:
    """Guards against an error from the depths of torch for a model that was never filled."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=96, hidden_size=64, num_hidden_layers=3))
    with pytest.raises(UnsupportedModelError, match="meta device, without weights: load it"):
        Target(model)


class Int8Linear(nn.Module):
    """Whole numbers and a scale for each row, in buffers."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.linear(rows, self.weight.to(rows.dtype) * self.scale)


class PackedHead(Int8Linear):
    """Two rows in one, under a name of its own, as GPTQ keeps them: the vocabulary is not seen."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.register_buffer("packed", self.weight.reshape(len(self.weight) // 2, -1))
        del self.weight

    def forward(self, rows: Tensor) -> Tensor:
        weight = self.packed.reshape(len(self.scale), -1).to(rows.dtype)
        return nn.functional.linear(rows, weight * self.scale)


def quantised(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = tiny_model(dtype=dtype)
    for layer in model.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, child in list(block.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(block, name, Int8Linear(child))
    model.lm_head = PackedHead(model.lm_head)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantised_models_are_decoded_as_others(dtype: torch.dtype) -> None:
    """Guards against parts that are taken for norms because their weights are no parameters.

    And against bits that nobody can promise for kernels that nobody here has seen.
    """
    engine = Engine(quantised(dtype))
    layers = engine.target.layers
    assert layers.list_name == "model.layers"
    assert layers.eligible_alone == ELIGIBLE
    assert {layer.mlp_names for layer in layers.layers} == {("mlp",)}
    assert engine.target.vocab_size == VOCAB_SIZE
    assert engine.target.supports_trees
    assert not engine.target.is_bit_exact
    vanilla = decode(engine, PROMPT, "off", max_new_tokens=NUM_NEW_TOKENS)
    if dtype == torch.float32:
        expected = transformers_greedy(engine.target.model, PROMPT, NUM_NEW_TOKENS)
        assert vanilla.sink.token_ids == expected
    run = decode(engine, PROMPT, DraftConfig.chain(4, skip_set=SOME), max_new_tokens=NUM_NEW_TOKENS)
    assert run.sink.token_ids == vanilla.sink.token_ids
    assert 0 < run.state.stats.acceptance_rate < 1


def test_the_report_counts_quantised_weights() -> None:
    """Guards against a model of which `selfdraft inspect` finds only the norms."""
    plain, packed = (report_on(Engine(model), "") for model in (tiny_model(), quantised()))
    assert packed.vocab_size == plain.vocab_size
    for part in ("attention", "mlp"):
        ratio = getattr(packed.weight_bytes, part) / getattr(plain.weight_bytes, part)
        assert ratio == 1 / 4


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_activations_quantised_over_a_whole_pass_are_refused() -> None:
    """Guards against text that depends on the draft: torch's dynamic quantisation scales all
    tokens of a pass by the largest of their activations.
    """
    model = torch.ao.quantization.quantize_dynamic(tiny_model(), {nn.Linear}, dtype=torch.qint8)
    with torch.inference_mode():
        logits = [model(torch.tensor([list(PROMPT[:n])])).logits[0, 1] for n in (2, 5)]
    assert (logits[0] - logits[1]).abs().max() > 0.01 * logits[0].abs().max(), "model's own fault"
    with pytest.raises(UnsupportedModelError, match="quantise the weights only"):
        Target(model)
