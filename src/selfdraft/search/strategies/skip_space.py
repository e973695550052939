"""What a search may choose from: the units of a model that a draft can skip."""

from collections.abc import Iterable
from itertools import chain

from selfdraft.model.skip_set import SkipSet, evenly_spread
from selfdraft.model.structure.sublayers import DecoderLayers

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
        """Evenly spread layers, all of each (SWIFT, section 4.1), as far as `count` units go.

        An odd unit that is left over is one sublayer of a layer near the middle: sets of two sizes
        do not compare, so the start has the size of everything that is proposed after it.
        """
        count = self.count(skip_ratio)
        chosen = self._spread_layers(count)
        others = [number for number in range(len(self)) if number not in chosen]
        middle = len(others) // 2
        rest = evenly_spread(others[middle:] + others[:middle], count - len(chosen))
        return chosen.union(rest)

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

    def _spread_layers(self, most_units: int) -> Units:
        """All units of as many evenly spread layers as have no more than `most_units`."""
        by_layer: dict[int, list[int]] = {}
        for number, unit in enumerate(self.units):
            by_layer.setdefault((unit.attention or unit.mlp)[0], []).append(number)
        layers = list(by_layer.values())
        for num_layers in range(len(layers), 0, -1):
            units = frozenset(chain.from_iterable(evenly_spread(layers, num_layers)))
            if len(units) <= most_units:
                return units
        return frozenset()
