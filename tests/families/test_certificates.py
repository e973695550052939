"""Layers that are broken on purpose: what selfdraft learns is certified, or not used."""

from typing import Any

import pytest
import torch
from decoding_runs import decode
from families import FAMILIES, INNER_LAYERS, NUM_LAYERS, PROMPT, Family, tiny
from tiny_models import transformers_greedy
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.errors import SkipSetError, UnsupportedModelError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.target import Target

LLAMA = next(family for family in FAMILIES if family.name == "llama")
POST_NORM_OPT = Family(
    model_type="opt",
    options={"ffn_dim": 128, "word_embed_proj_dim": 64, "do_layer_norm_before": False},
)


class BiasedLayer(LlamaDecoderLayer):
    """Adds a constant to the stream, besides what attention and MLP add."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(*args, **kwargs) + 0.01


class CountingMLP(LlamaMLP):
    """Louder with every call."""

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls = self.num_calls + 1
        return super().forward(x) * (1 + 0.1 * self.num_calls)


class CountingInPlaceMLP(LlamaMLP):
    """Louder with every call, in a tensor that every view of the model shares."""

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        return super().forward(x) * (1 + 0.1 * self.num_calls)


class AveragingMLP(LlamaMLP):
    """Subtracts a running mean of all that it has seen."""

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls = 0.9 * self.num_calls + 0.1 * x.mean()
        return super().forward(x - self.num_calls)


def assert_decodes_right(engine: Engine, skip_set: SkipSet) -> None:
    expected = transformers_greedy(engine.target.model, PROMPT, 16)
    for draft in ("off", DraftConfig.chain(4, skip_set=skip_set)):
        assert decode(engine, PROMPT, draft, max_new_tokens=16).sink.token_ids == expected


def test_a_layer_that_does_more_than_its_sublayers_always_runs() -> None:
    """Guards against a draft that silently drops what a layer does beside attention and MLP."""
    model = tiny(LLAMA)
    model.model.layers[1].__class__ = BiasedLayer
    engine = Engine(model)
    layers = engine.target.layers
    assert layers.eligible == (2,)
    assert layers.reasons[1] == "skipping both sublayers is not the identity"
    with pytest.raises(SkipSetError, match=r"layer 1.*not the identity"):
        engine.target.draft_view(DraftPlan(SkipSet((1,), (1,))))
    assert_decodes_right(engine, SkipSet((2,), (2,)))


@pytest.mark.parametrize("mlp_class", [CountingMLP, CountingInPlaceMLP, AveragingMLP])
def test_state_outside_of_the_cache_is_refused(mlp_class: type[LlamaMLP]) -> None:
    """Guards against text that depends on rejected drafts: a state that cannot be rolled back."""
    model = tiny(LLAMA)
    mlp = model.model.layers[1].mlp
    mlp.__class__ = mlp_class
    mlp.register_buffer("num_calls", torch.zeros(()))
    with pytest.raises(UnsupportedModelError, match="other logits"):
        Target(model)


def test_post_norm_layers_always_run_and_decode_right() -> None:
    """Guards against a draft whose residual stream is normed once less often."""
    engine = Engine(tiny(POST_NORM_OPT))
    layers = engine.target.layers
    assert layers.eligible == ()
    assert all("not the identity" in layers.reasons[index] for index in INNER_LAYERS)
    for skip_set in (SkipSet((1,), (1,)), SkipSet(mlp=(1,)), SkipSet(attention=(1,))):
        with pytest.raises(SkipSetError, match="not the identity"):
            engine.target.draft_view(DraftPlan(skip_set))
    assert_decodes_right(engine, SkipSet())


@pytest.mark.parametrize("index", [0, NUM_LAYERS - 1, NUM_LAYERS])
def test_layers_that_may_not_be_named(index: int) -> None:
    """Guards against the outer layers, or one that is not there, in a user's skip set."""
    with pytest.raises(SkipSetError, match=r"always runs|has the layers 0 to 3"):
        Target(tiny(LLAMA)).draft_view(DraftPlan(SkipSet((index,), (index,))))


@pytest.mark.parametrize(
    ("name", "mlp_names"),
    [
        ("granitemoeshared", ("block_sparse_moe", "shared_mlp")),
        ("gemma4_text", ("mlp", "per_layer_input_gate", "per_layer_projection")),
    ],
)
@torch.inference_mode()
def test_modules_that_each_add_to_the_stream_are_one_mlp(
    name: str, mlp_names: tuple[str, ...]
) -> None:
    """Guards against a draft that drops the last of several modules and keeps the others.

    With all their matrices at zero they are silent by themselves, and skipping changes no bit.
    """
    model = tiny(next(family for family in FAMILIES if family.name == name))
    for part in mlp_names:
        for parameter in model.model.layers[1].get_submodule(part).parameters():
            parameter.zero_()
    target = Target(model)
    assert target.layers.eligible_alone == INNER_LAYERS
    assert target.layers.layers[1].mlp_names == mlp_names
    rows = []
    for runner in (target, target.draft_view(DraftPlan(SkipSet(mlp=(1,))))):
        cache = target.new_cache(len(PROMPT))
        target.prefill(cache, PROMPT[:-1])
        rows.append(runner.forward(cache, PROMPT[-1:], ((0,),)))
    assert torch.equal(*rows)


_HOOK_KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


def state_of(model: PreTrainedModel) -> dict[str, object]:
    """Modules, hooks and settings; the bits are compared apart."""
    return {
        "modules": [(name, id(module), type(module)) for name, module in model.named_modules()],
        "hooks": [
            [list(getattr(module, kind).items()) for kind in _HOOK_KINDS]
            for module in model.modules()
        ],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "modes": [module.training for module in model.modules()],
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
    }


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "opt", "bloom", "mixtral"])
@pytest.mark.parametrize("is_training", [False, True])
def test_learning_leaves_the_model_as_it_was(name: str, is_training: bool) -> None:
    """Guards against hooks, stubs, modes or settings of the trial runs that stay behind."""
    model = tiny(next(family for family in FAMILIES if family.name == name))
    model.train(is_training)
    for module in model.modules():
        module.register_forward_hook(_ignore)
    before = state_of(model)
    bits = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    target = Target(model)
    target.draft_view(DraftPlan(SkipSet((1,), (2,))))
    assert state_of(model) == before
    assert all(torch.equal(tensor, bits[key]) for key, tensor in model.state_dict().items())


def _ignore(*_: object) -> None:
    """A user's hook."""


def test_a_hook_hung_on_later_sees_only_the_users_calls() -> None:
    """Guards against a target that runs the user's own modules instead of its copies."""
    model, calls = tiny(LLAMA), []
    engine = Engine(model)
    model.model.layers[1].mlp.register_forward_hook(lambda *_: calls.append(1))
    decode(engine, PROMPT, "off", max_new_tokens=4)
    assert not calls
    model(torch.tensor([list(PROMPT)]))
    assert len(calls) == 1


@pytest.mark.slow
def test_a_trained_layer_scalar_makes_layers_run() -> None:
    """Guards against gemma4's factor on the whole stream, which is 1 only before training."""
    model = tiny(next(family for family in FAMILIES if family.name == "gemma4_text"))
    for layer in model.model.layers:
        layer.layer_scalar.fill_(0.9)
    engine = Engine(model)
    assert engine.target.layers.eligible == ()
    assert_decodes_right(engine, SkipSet())
