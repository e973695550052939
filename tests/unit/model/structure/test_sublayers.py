"""What may be skipped in a model, as it is learned from it."""

import pytest
import torch
from tiny_models import FAMILIES, NUM_LAYERS, tiny_model

from selfdraft import SkipSet
from selfdraft.errors import ConfigError, SkipSetError
from selfdraft.model.target import Target


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_layers(family: str) -> None:
    """Guards against another list of modules that is taken for the layers."""
    layers = Target(tiny_model(family)).layers
    assert layers.list_name == "model.layers"
    assert layers.num_layers == NUM_LAYERS
    assert layers.eligible == layers.eligible_alone == (1, 2, 3)
    assert set(layers.reasons) == {0, 4}
    assert all(layer.attention_name == "self_attn" for layer in layers.layers)
    assert all(layer.mlp_names == ("mlp",) for layer in layers.layers)


def test_norms_are_left_out_with_their_sublayer() -> None:
    """Guards against a draft that norms what nobody reads, and against one that drops a norm in
    use.
    """
    layer = Target(tiny_model()).layers.layers[2]
    assert layer.attention is not None
    assert set(layer.attention.stubs) == {"self_attn", "input_layernorm"}
    assert layer.mlp is not None
    assert {"mlp", "post_attention_layernorm"} == set(layer.mlp.stubs)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_shallow_models_have_nothing_to_skip(num_layers: int) -> None:
    """Guards against a first layer that is skipped because it is not the last."""
    assert Target(tiny_model(num_hidden_layers=num_layers)).layers.eligible == ()


def test_a_layer_with_an_idle_extra_part_is_learned() -> None:
    """Guards against refusing a layer for a part that it does not call."""
    model = tiny_model()
    model.model.layers[3].adapter = torch.nn.Linear(4, 4)
    assert 3 in Target(model).layers.eligible


def test_skip_sets_for_another_model_are_refused() -> None:
    """Guards against a set whose layers the model lacks, or must run."""
    layers = Target(tiny_model()).layers
    layers.require_skippable(SkipSet((1, 2), (3,)))
    with pytest.raises(SkipSetError, match="mlp of layer 0.*the first layer always runs"):
        layers.require_skippable(SkipSet((1,), (0, 2)))
    with pytest.raises(SkipSetError, match="attention of layer 9.*layers 0 to 4"):
        layers.require_skippable(SkipSet((9,)))
    assert issubclass(SkipSetError, ConfigError)
