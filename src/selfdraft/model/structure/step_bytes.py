"""The bytes of weights that one pass reads, which is what a pass of few rows waits for."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.structure.sublayers import DecoderLayers
from selfdraft.model.weights.quantisation import num_bytes, weights_of

# Of bfloat16's, with scales and zero points.
_SHARE_OF_BYTES = {16: 1.0, 8: 0.5, 4: 0.3125}


@dataclass(frozen=True, slots=True)
class StepBytes:
    """Bytes read by a pass of the whole model, and of it by each layer's sublayers."""

    total: int
    attention: tuple[int, ...]
    mlp: tuple[int, ...]

    @classmethod
    def of(cls, model: PreTrainedModel, layers: DecoderLayers) -> "StepBytes":
        """Those of `model`: its decoder layers and its head. Of the embeddings one row is read."""
        modules = list(model.get_submodule(layers.list_name).children())
        attention, mlp = [], []
        for module, layer in zip(modules, layers.layers, strict=True):
            name = layer.attention_name
            attention.append(0 if name is None else _bytes_of(module.get_submodule(name)))
            mlp.append(sum(_bytes_of(module.get_submodule(part)) for part in layer.mlp_names))
        head = model.get_output_embeddings()
        total = sum(_bytes_of(module) for module in modules)
        total += _bytes_of(head) if isinstance(head, nn.Module) else 0
        return cls(total, tuple(attention), tuple(mlp))

    def relative(self, plan: DraftPlan) -> float:
        """What a draft step of `plan` reads, as a share of the target's pass."""
        skipped = sum(self.attention[index] for index in plan.skip_set.attention)
        skipped += sum(self.mlp[index] for index in plan.skip_set.mlp)
        share = _SHARE_OF_BYTES[plan.weight_bits]
        return (1 - skipped / self.total) * share if self.total else 1.0


def _bytes_of(module: nn.Module) -> int:
    return sum(num_bytes(weight) for weight in weights_of(module))
