"""Where a model's decoder layers are, and which sublayers of them a draft may skip.

So far one kind of layer is known: the plain one of Llama and most of its successors,
`input_layernorm, self_attn, post_attention_layernorm, mlp`, where each sublayer adds its result
to the residual stream. Everything else in the package asks this module and knows no names.
"""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from selfdraft.errors import UnsupportedModelError

ATTENTION = ("input_layernorm", "self_attn")
MLP = ("post_attention_layernorm", "mlp")


@dataclass(frozen=True, slots=True)
class DecoderLayers:
    """A model's decoder layers.

    `list_name` is the dotted name of the module list. `eligible` are the indices of the layers
    whose sublayers may be skipped; `reasons` says of every other layer why not.
    """

    list_name: str
    num_layers: int
    eligible: tuple[int, ...]
    reasons: dict[int, str]


def find_decoder_layers(model: PreTrainedModel) -> DecoderLayers:
    """Find the decoder layers of `model`.

    Raises:
        UnsupportedModelError: it is not a decoder-only model of plain layers.
    """
    _require_decoder_only(model)
    list_name, layers = _longest_layer_list(model)
    for index, layer in enumerate(layers):
        _require_plain(f"{list_name}.{index}", layer)
    last = len(layers) - 1
    return DecoderLayers(
        list_name=list_name,
        num_layers=len(layers),
        eligible=tuple(range(1, last)),
        reasons={0: "the first layer always runs", last: "the last layer always runs"},
    )


def _require_decoder_only(model: PreTrainedModel) -> None:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{name} is an encoder-decoder model: give a decoder-only one")
    if model.get_output_embeddings() is None:
        raise UnsupportedModelError(
            f"{name} has no language-modelling head: load it with AutoModelForCausalLM"
        )
    if not getattr(model, "_supports_attention_backend", False):
        raise UnsupportedModelError(
            f"{name} computes attention by itself instead of through transformers' attention "
            "interface, which selfdraft needs to check a tree of tokens in one pass"
        )


def _longest_layer_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise UnsupportedModelError(f"{type(model).__name__} has no list of decoder layers")
    return max(lists, key=lambda item: len(item[1]))


def _require_plain(name: str, layer: nn.Module) -> None:
    expected = {*ATTENTION, *MLP}
    present = {child for child, module in layer.named_children() if list(module.parameters())}
    if present != expected:
        raise UnsupportedModelError(
            f"{name} ({type(layer).__name__}) has the parts {', '.join(sorted(present))}; so far "
            f"selfdraft knows layers of {', '.join(sorted(expected))} (Llama, Mistral, Qwen2, ...)"
        )
