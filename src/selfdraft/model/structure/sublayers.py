"""What a draft may skip in a model, as it was learned from the model itself.

`discovery` finds the decoder layers and certifies how each sublayer is skipped; here is what it
writes down, and everything else in the package reads. No module names are known in advance.
"""

from dataclasses import dataclass

from selfdraft.errors import SkipSetError
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.structure.stubs import Returns, Stub


@dataclass(frozen=True, slots=True)
class Sublayer:
    """How to skip one sublayer: a stub for each of these modules, by name within the layer."""

    stubs: dict[str, Stub]


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One decoder layer. A sublayer that may not be skipped is None, and `reason` says why."""

    returns: Returns
    attention_name: str | None = None
    """The child module that is the attention, if one is."""
    mlp_names: tuple[str, ...] = ()
    """The child modules that make up the MLP."""
    attention: Sublayer | None = None
    mlp: Sublayer | None = None
    is_skippable_whole: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DecoderLayers:
    """A model's decoder layers; `list_name` is the dotted name of the list that holds them."""

    list_name: str
    layers: tuple[DecoderLayer, ...]

    @property
    def num_layers(self) -> int:
        """Decoder layers in all."""
        return len(self.layers)

    @property
    def eligible(self) -> tuple[int, ...]:
        """Layers that may be skipped whole."""
        return tuple(i for i, layer in enumerate(self.layers) if layer.is_skippable_whole)

    @property
    def eligible_alone(self) -> tuple[int, ...]:
        """Layers whose attention and whose MLP may each be skipped without the other."""
        layers = self.layers
        return tuple(i for i in self.eligible if layers[i].attention and layers[i].mlp)

    def require_skippable(self, skip_set: SkipSet) -> None:
        """Raise `SkipSetError` if `skip_set` names something that always runs."""
        whole = set(skip_set.attention) & set(skip_set.mlp)
        for kind, indices in (("attention", skip_set.attention), ("mlp", skip_set.mlp)):
            for index in indices:
                if not self._may_skip(kind, index, whole):
                    raise SkipSetError(
                        f"skip set names {kind} of layer {index}, which may not be skipped: "
                        f"{self._why_not(index)}"
                    )

    def _may_skip(self, kind: str, index: int, whole: set[int]) -> bool:
        if index >= self.num_layers:
            return False
        layer = self.layers[index]
        if index in whole:
            return layer.is_skippable_whole
        return (layer.attention if kind == "attention" else layer.mlp) is not None

    def _why_not(self, index: int) -> str:
        if index >= self.num_layers:
            return f"the model has the layers 0 to {self.num_layers - 1}"
        return self.layers[index].reason or "it always runs"

    @property
    def reasons(self) -> dict[int, str]:
        """Why something of a layer may not be skipped, for each layer of which that is so."""
        return {i: layer.reason for i, layer in enumerate(self.layers) if layer.reason}
