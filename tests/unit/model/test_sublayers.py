"""Finding the decoder layers of a model."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, OlmoConfig

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.sublayers import find_decoder_layers
from tiny_models import FAMILIES, NUM_LAYERS, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_layers(family: str) -> None:
    """Guards against another list of modules that is taken for the layers."""
    layers = find_decoder_layers(tiny_model(family))
    assert layers.list_name == "model.layers"
    assert layers.num_layers == NUM_LAYERS
    assert layers.eligible == (1, 2, 3)
    assert set(layers.reasons) == {0, 4}


@pytest.mark.parametrize("num_layers", [1, 2])
def test_shallow_models_have_nothing_to_skip(num_layers: int) -> None:
    """Guards against a first layer that is skipped because it is not the last."""
    assert find_decoder_layers(tiny_model(num_hidden_layers=num_layers)).eligible == ()


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2),
        OlmoConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            pad_token_id=None,
        ),
    ],
    ids=["gpt2", "olmo"],
)
def test_other_layers_are_refused_by_name(config: object) -> None:
    """Guards against layers whose sublayers are named alike by luck, or not at all."""
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UnsupportedModelError, match=r"layers\.0|h\.0"):
        find_decoder_layers(model)


def test_a_layer_with_an_extra_part_is_refused() -> None:
    """Guards against a sublayer that a draft would run though its neighbours are skipped."""
    model = tiny_model()
    model.model.layers[3].adapter = torch.nn.Linear(4, 4)
    with pytest.raises(UnsupportedModelError, match=r"model\.layers\.3.*adapter"):
        find_decoder_layers(model)
