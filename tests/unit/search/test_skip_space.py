"""The units that a search chooses from."""

from selfdraft import SkipSet
from selfdraft.model.stubs import Returns
from selfdraft.model.sublayers import DecoderLayer, DecoderLayers, Sublayer
from selfdraft.search.skip_space import SkipSpace

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
