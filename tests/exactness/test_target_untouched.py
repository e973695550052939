"""The user's model is read and never changed."""

import contextlib

import pytest
import torch
from tiny_models import (
    DRAFTS,
    TREE,
    VOCAB_SIZE,
    make_prompt,
    tiny_model,
    transformers_greedy,
)
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
)

from selfdraft import Engine, SelfdraftError
from selfdraft.model.draft_plan import DraftPlan


def snapshot(model: PreTrainedModel) -> dict[str, object]:
    """Everything about a model that an engine could have changed, but its weights."""
    return {
        "modules": [(name, id(module), type(module)) for name, module in model.named_modules()],
        "training": [module.training for module in model.modules()],
        "parameters": [(name, id(p), p.requires_grad) for name, p in model.named_parameters()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
        "generation": model.generation_config.to_dict(),
    }


@pytest.mark.parametrize("is_training", [False, True])
def test_model_is_the_same_after_use(is_training: bool) -> None:
    """Guards against a skip flag, a stub, an attention setting or a mode that is left behind."""
    model = tiny_model(attention_dropout=0.1).train(is_training)
    prompt = torch.tensor([make_prompt(8)])
    before, weights = snapshot(model), {k: v.clone() for k, v in model.state_dict().items()}
    logits = model.eval()(prompt).logits
    model.train(is_training)

    engine = Engine(model)
    for draft in (TREE, DRAFTS["attention skipped"], "off"):
        engine.generate(make_prompt(8), draft=draft, max_new_tokens=8)
    next(engine.stream(make_prompt(8), draft=TREE))  # a consumer that leaves in the middle

    assert snapshot(model) == before
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert torch.equal(model.eval()(prompt).logits, logits)


def test_weights_are_shared_not_copied() -> None:
    """Guards against a draft that doubles the memory."""
    engine = Engine(tiny_model())
    own = {parameter.data_ptr() for parameter in engine.target.model.parameters()}
    plan = DraftPlan(engine.target.uniform_skip_set(0.5))
    for view in (engine.target, engine.target.draft_view(plan)):
        assert {parameter.data_ptr() for parameter in view._module.parameters()} <= own


def test_model_in_training_mode_is_decoded_without_dropout() -> None:
    """Guards against an output that depends on the mode the user left the model in."""
    model = tiny_model(attention_dropout=0.5)
    expected = transformers_greedy(model, make_prompt(8), 10)
    assert Engine(model.train()).generate(make_prompt(8), max_new_tokens=10).token_ids == expected


def test_model_with_configs_inside_its_config() -> None:
    """Guards against the attention setting of a shared inner config: transformers' setter writes
    it into every sub-config, and then the user's own model runs with our attention.
    """
    text = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=95)
    model = LlavaForConditionalGeneration(config).eval()
    before = model.config.text_config._attn_implementation
    with contextlib.suppress(SelfdraftError):  # refusing such a model is as good
        Engine(model)
    assert model.config.text_config._attn_implementation == before
