"""The units that a search chooses from."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from selfdraft import SkipSet
from selfdraft.model.structure.stubs import Returns
from selfdraft.model.structure.sublayers import DecoderLayer, DecoderLayers, Sublayer
from selfdraft.search.strategies.skip_space import SkipSpace

_ANY = Sublayer({})
_ALWAYS = DecoderLayer(Returns())
_WHOLE = DecoderLayer(Returns(), is_skippable_whole=True)
_SPLIT = DecoderLayer(Returns(), attention=_ANY, mlp=_ANY, is_skippable_whole=True)


def test_whole_layers_are_one_unit() -> None:
    """Guards against proposals that skip half of a layer which was certified only as a whole."""
    space = SkipSpace(DecoderLayers("layers", (_ALWAYS, _SPLIT, _WHOLE, _ALWAYS)))
    assert space.units == (SkipSet((1,), ()), SkipSet((), (1,)), SkipSet((2,), (2,)))
    assert len(space) == 3
    assert space.count(0.34) == 1


def test_units_and_skip_sets_are_two_names_of_one_thing() -> None:
    """Guards against a remembered set that comes back as another one."""
    space = SkipSpace(DecoderLayers("layers", (_ALWAYS, _SPLIT, _WHOLE, _ALWAYS)))
    skip_set = space.skip_set({0, 2})
    assert skip_set == SkipSet((1, 2), (2,))
    assert space.units_of(skip_set) == {0, 2}
    assert space.units_of(SkipSet((0, 2), (0,))) == frozenset()


@given(
    layers=st.lists(st.sampled_from([_ALWAYS, _WHOLE, _SPLIT]), max_size=40), ratio=st.floats(0, 1)
)
def test_the_spread_set_has_exactly_the_size_of_its_ratio(
    layers: list[DecoderLayer], ratio: float
) -> None:
    """Guards against a start that is a unit off, and against a sublayer that may not be skipped."""
    space = SkipSpace(DecoderLayers("layers", tuple(layers)))
    units = space.spread(ratio)
    assert len(units) == space.count(ratio)
    assert units <= set(range(len(space)))


@given(num_layers=st.integers(2, 40), ratio=st.floats(0, 1))
def test_an_even_size_is_whole_layers_an_odd_one_has_one_more_unit(
    num_layers: int, ratio: float
) -> None:
    """Guards the paper's start: both sublayers of evenly spread layers."""
    space = SkipSpace(DecoderLayers("layers", (_SPLIT,) * num_layers))
    skip_set = space.skip_set(space.spread(ratio))
    alone = set(skip_set.attention) ^ set(skip_set.mlp)
    assert len(alone) == space.count(ratio) % 2
    both = sorted(set(skip_set.attention) & set(skip_set.mlp))
    gaps = [b - a for a, b in pairwise(both)]
    assert not gaps or max(gaps) - min(gaps) <= 1
