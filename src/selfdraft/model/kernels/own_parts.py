"""The parts of a model that kernels of ours compute in every view of it (ADR 15).

They have the weights of the model's own parts, which stay as they are, and another forward.
"""

from torch import nn
from transformers import PreTrainedModel

from selfdraft.model.kernels.rms_norm import rms_norms
from selfdraft.model.kernels.shared_input import join_shared_inputs
from selfdraft.model.kernels.tile_linear import tile_linears


def own_parts(model: PreTrainedModel) -> dict[nn.Module, nn.Module]:
    """What stands for a part of `model` in a view; nothing on a machine without the kernels."""
    linears = tile_linears(model)
    join_shared_inputs(model, linears)
    return {**linears, **rms_norms(model)}
