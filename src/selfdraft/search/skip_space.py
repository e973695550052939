"""What a search may choose from: the units of a model that a draft can skip."""

from collections.abc import Iterable

from selfdraft.model.skip_set import SkipSet
from selfdraft.model.sublayers import DecoderLayers

Units = frozenset[int]
"""A skip set as indices of units."""


class SkipSpace:
    """All skip sets of a model, each a choice of units.

    A unit is one sublayer, or a whole decoder layer where its sublayers cannot be told apart.
    """

    def __init__(self, layers: DecoderLayers) -> None:
        alone = set(layers.eligible_alone)
        units: list[SkipSet] = []
        for index in layers.eligible:
            if index in alone:
                units += [SkipSet(attention=(index,)), SkipSet(mlp=(index,))]
            else:
                units.append(SkipSet((index,), (index,)))
        self.units = tuple(units)
        self.whole_layers = tuple(layers.eligible)

    def __len__(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def num_sublayers(self) -> int:
        """Sublayers that may be skipped, alone or with the other of their layer."""
        return sum(unit.num_skipped for unit in self.units)

    def count(self, skip_ratio: float) -> int:
        """Units that a set of this ratio skips."""
        return round(len(self) * skip_ratio)

    def spread(self, skip_ratio: float) -> Units:
        """Both sublayers of evenly spread layers (SWIFT, section 4.1)."""
        return self.units_of(SkipSet.uniform(self.whole_layers, skip_ratio))

    def skip_set(self, units: Iterable[int]) -> SkipSet:
        """The skip set of these units."""
        chosen = [self.units[number] for number in units]
        return SkipSet(
            tuple(index for unit in chosen for index in unit.attention),
            tuple(index for unit in chosen for index in unit.mlp),
        )

    def units_of(self, skip_set: SkipSet) -> Units:
        """The units that make up a skip set; what is no unit of this model is left out."""
        attention, mlp = set(skip_set.attention), set(skip_set.mlp)
        return frozenset(
            number
            for number, unit in enumerate(self.units)
            if attention.issuperset(unit.attention) and mlp.issuperset(unit.mlp)
        )
