"""The strategies by name, put together from single proposers."""

from collections.abc import Sequence
from typing import Literal, get_args

from selfdraft.config import require
from selfdraft.model.target import Target
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.strategies.bayes_proposals import BayesianSets
from selfdraft.search.strategies.hidden_state_sets import HiddenStateSets
from selfdraft.search.strategies.proposals import (
    EveryNth,
    Given,
    InTurn,
    Proposer,
    RandomSets,
    Swaps,
)
from selfdraft.search.strategies.skip_space import SkipSpace, Units

Strategy = Literal["random", "paper", "swaps", "hidden-states", "default"]
"""`paper`: random sets, every beta-th from Bayesian optimisation. `default`: remembered sets, the
sets of a walk over hidden states, then swaps around the best."""

PAPER_INTERVAL = 25  # beta

# Tokens that the walk follows where time is not short: one more than doubles what it costs.
_WALK_TOKENS = 4


def new_proposer(
    strategy: Strategy,
    target: Target,
    space: SkipSpace,
    config: SearchConfig,
    remembered: Sequence[Units] = (),
    seed: int = 0,
) -> Proposer:
    """The strategy of this name, at the size that `config` fixes if it fixes one.

    Raises:
        ConfigError: there is no such strategy, or it needs a fixed size.
    """
    names = get_args(Strategy)
    require(strategy in names, f"strategy is {strategy!r}: give one of {', '.join(names)}")
    size = None if config.skip_ratio is None else space.count(config.skip_ratio)
    if strategy in ("random", "paper"):
        require(size is not None, f"strategy {strategy!r} needs a skip_ratio: give one")
        assert size is not None
        usual = RandomSets(size, seed)
        if strategy == "random":
            return usual
        rare = BayesianSets(size, seed)
        return EveryNth(usual, rare, config.bayes_interval or PAPER_INTERVAL)
    swaps = Swaps(seed, is_size_fixed=size is not None)
    if strategy == "swaps":
        return swaps
    walked = HiddenStateSets(
        target, size, num_tokens=_WALK_TOKENS if config.time_share is None else 1
    )
    if strategy == "hidden-states":
        return walked
    return InTurn([Given(remembered), walked, swaps])
