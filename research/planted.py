"""A planted target: a real model with redundant layers, so that a perfect skip set is known.

Every planted layer is a copy of a real one whose output projections are zero, or nearly: it costs
as much as a real layer and adds nothing, or nearly. Skipping all of them gives a draft that agrees
with the target always, up to rounding and what was left. What speculation then gains is limited by
its own overhead alone.
"""

import copy
import random
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.structure.discovery import find_layer_list

_OUTPUT_PROJECTIONS = ("self_attn.o_proj", "mlp.down_proj")

# A norm behind a projection (Gemma) undoes what makes its output small.
_NORM_BEHIND = "post_feedforward_layernorm"


@dataclass(frozen=True, slots=True)
class PlantedTarget:
    """A model, and the skip set that leaves out what was planted."""

    model: PreTrainedModel
    perfect_skip_set: SkipSet


def plant(model: PreTrainedModel, seed: int = 0, noise: float = 0.0) -> PlantedTarget:
    """A copy of `model` with as many redundant layers again, at random places.

    With `noise`, every second one of them, at random, adds that share of what the layer that it is
    a copy of would add; the others add nothing.

    The first and the last layer stay real, because they are never skipped. The copy has no end
    token, so that every output has the length that is asked for.

    Raises:
        UnsupportedModelError: its layers have no output projections that we know.
    """
    planted = copy.deepcopy(model)
    list_name = find_layer_list(planted)
    real = list(planted.get_submodule(list_name).children())
    _require_projections(real[0], noise)
    generator = random.Random(seed)
    layers: list[nn.Module] = []
    planted_indices: list[int] = []
    for number, slot in enumerate(_slots(len(real), generator)):
        for _ in range(slot):
            planted_indices.append(len(layers))
            layers.append(_redundant(real[number], noise * generator.randrange(2)))
        layers.append(real[number])
    for index, layer in enumerate(layers):
        layer.get_submodule("self_attn").__dict__["layer_idx"] = index
    parent_name, _, attribute = list_name.rpartition(".")
    setattr(planted.get_submodule(parent_name), attribute, nn.ModuleList(layers))
    planted.config.num_hidden_layers = len(layers)
    if getattr(planted.config, "layer_types", None):
        planted.config.layer_types = ["full_attention"] * len(layers)
    planted.generation_config.eos_token_id = None
    skipped = tuple(planted_indices)
    return PlantedTarget(planted, SkipSet(skipped, skipped))


def _require_projections(layer: nn.Module, noise: float) -> None:
    names = {name for name, _ in layer.named_modules()}
    missing = [name for name in _OUTPUT_PROJECTIONS if name not in names]
    if missing:
        raise UnsupportedModelError(
            f"no redundant layers can be planted: the layers of this model have no "
            f"{' and no '.join(missing)}; take a Llama, Mistral, Qwen or SmolLM model"
        )
    if noise and _NORM_BEHIND in names:
        raise UnsupportedModelError(
            "no noise can be planted: this model normalises what its sublayers add; leave the "
            "noise out"
        )


def _slots(num_layers: int, generator: random.Random) -> list[int]:
    """How many redundant layers stand before each real one: none before the first."""
    counts = [0] * num_layers
    for _ in range(num_layers):
        counts[generator.randrange(1, num_layers)] += 1
    return counts


@torch.no_grad()
def _redundant(layer: nn.Module, noise: float) -> nn.Module:
    twin = copy.deepcopy(layer)
    for name in _OUTPUT_PROJECTIONS:
        projection = twin.get_submodule(name)
        # By its state, which is plain weights even where the projection is packed.
        projection.load_state_dict({n: w * noise for n, w in projection.state_dict().items()})
    return twin
