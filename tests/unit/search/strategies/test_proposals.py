"""Strategies: what they propose, given what was scored."""

import functools

import pytest
from decoding_runs import Recorder, new_state
from tiny_models import make_prompt, tiny_engine

from selfdraft.decoding.loop import speculate
from selfdraft.search.matchness import Window
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.strategies.bayes_proposals import BayesianSets
from selfdraft.search.strategies.hidden_state_sets import HiddenStateSets
from selfdraft.search.strategies.proposals import (
    EveryNth,
    Evidence,
    Given,
    InTurn,
    RandomSets,
    Swaps,
    Walk,
)
from selfdraft.search.strategies.skip_space import SkipSpace
from selfdraft.search.strategies.table import new_proposer


@functools.cache
def space() -> SkipSpace:
    return SkipSpace(tiny_engine().target.layers)  # 6 units


def evidence(best: tuple[int, ...] = (0, 1), **values: float) -> Evidence:
    known = {frozenset(map(int, name[1:])): value for name, value in values.items()}
    return Evidence(space(), (), frozenset(best), known)


def test_random_sets_have_the_size_and_differ() -> None:
    """Guards against a generator that is seeded anew for each proposal."""
    proposer = RandomSets(3, seed=1)
    seen = Evidence(space(), (), frozenset())
    for _ in range(20):  # of 20 sets of 3 units out of 6
        units = proposer.propose(seen)
        assert units is not None
        assert len(units) == 3
        seen.values[units] = 0.5
    assert len(seen.values) >= 18


def test_swaps_are_neighbours_of_the_best() -> None:
    """With a fixed size as many leave as join; with a free one the size may change."""
    fixed = {Swaps(seed, is_size_fixed=True).propose(evidence()) for seed in range(40)}
    assert {len(units) for units in fixed} == {2}
    assert all(1 <= len(units - {0, 1}) <= 2 for units in fixed)
    free = {Swaps(seed, is_size_fixed=False).propose(evidence()) for seed in range(40)}
    assert {len(units) for units in free} >= {1, 2, 3}


def test_swaps_of_everything_and_nothing() -> None:
    """Guards against an endless search for a neighbour that does not exist."""
    assert Swaps(0, is_size_fixed=True).propose(evidence(best=())) is None
    assert Swaps(0, is_size_fixed=True).propose(evidence(best=(0, 1, 2, 3, 4, 5))) is None


def test_every_nth_comes_from_the_other_strategy() -> None:
    """Beta in the paper: the 25th, 50th, ... proposal is the optimiser's."""
    rare = Given([frozenset({n}) for n in range(5)])
    mixed = EveryNth(RandomSets(3, 0), rare, 4)
    sources = []
    for _ in range(12):
        mixed.propose(evidence())
        sources.append(mixed.name)
    assert sources == ["random", "random", "random", "remembered"] * 3


def test_optimiser_follows_what_it_was_told() -> None:
    """The reference registered a point that was not evaluated: nothing could be learned.

    Here units 0 and 1 are worth everything, and the optimiser must find that out.
    """
    import itertools

    values = {
        frozenset(units): len({0, 1} & set(units)) / 2
        for units in itertools.combinations(range(6), 2)
        if units != (0, 1)
    }
    known = Evidence(space(), (), frozenset({0, 2}), values)
    assert BayesianSets(2, seed=0).propose(known) == {0, 1}


def test_remembered_sets_come_once_each() -> None:
    """And not at all if this text has scored them."""
    proposer = Given([frozenset({1}), frozenset({2}), frozenset({1})])
    assert proposer.propose(evidence(u2=0.5)) == {1}
    assert proposer.propose(evidence(u2=0.5)) is None


def test_spread_start_is_the_papers() -> None:
    """Both sublayers of evenly spread layers."""
    assert space().spread(0.34) == {0, 1}


def test_a_walk_comes_before_the_sets_it_finds() -> None:
    """Guards against a walk that is scored, or sets that are proposed before it."""
    state = new_state(tiny_engine(), make_prompt(9), Recorder(), max_new_tokens=20)
    for _ in speculate(tiny_engine().target, tiny_engine().drafter("off"), state):
        pass
    known = Evidence(space(), (Window.latest(state, 16),), frozenset())
    for size, expected in ((2, {2}), (None, {1, 2, 3, 4})):
        proposer = InTurn([HiddenStateSets(tiny_engine().target, size), Swaps(0, is_size_fixed=1)])
        walk = proposer.propose(known)
        assert isinstance(walk, Walk)
        walk.run()
        sizes = set()
        while proposer.propose(known) is not None and proposer.name == "hidden states":
            units = proposer.propose(known)
            sizes.add(len(units))
            known.values[units] = 1 / len(units)
        assert sizes >= expected
        known.values.clear()


@pytest.mark.parametrize("strategy", ["random", "paper"])
def test_strategies_of_fixed_size_say_so(strategy: str) -> None:
    """Guards against a division of nothing deep inside."""
    with pytest.raises(ValueError, match="needs a skip_ratio"):
        new_proposer(strategy, tiny_engine().target, space(), SearchConfig())
    with pytest.raises(ValueError, match="give one of random, paper"):
        new_proposer("best", tiny_engine().target, space(), SearchConfig())
