"""A model's layers as two rows of characters: what a draft skips, may skip, and never skips."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from selfdraft.model.skip_set import SkipSet

if TYPE_CHECKING:
    from selfdraft.model.structure.sublayers import DecoderLayers

_LAYERS_PER_LINE = 60
_LEGEND = "# skipped   o may be skipped   - always runs"


def layer_map(layers: "DecoderLayers", skip_set: SkipSet) -> Iterator[str]:
    """A ruler and the two rows, in stretches of 60 layers, then the legend."""
    eligible = set(layers.eligible)
    for start in range(0, layers.num_layers, _LAYERS_PER_LINE):
        stretch = range(start, min(start + _LAYERS_PER_LINE, layers.num_layers))
        yield f"{'layer':<14} {''.join(f'{n:<10}' for n in stretch[::10]).rstrip()}"
        for label, chosen in (("attention", skip_set.attention), ("MLP", skip_set.mlp)):
            marks = ("#" if n in chosen else "o" if n in eligible else "-" for n in stretch)
            yield f"{label:<14} {''.join(marks)}"
    yield f"{'':<14} {_LEGEND}"
