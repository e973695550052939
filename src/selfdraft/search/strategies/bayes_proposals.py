"""Proposals by Bayesian optimisation (SWIFT, section 4.1), by `bayesian-optimization`.

Every unit is a coordinate in [0, 1]; the largest of a suggested point are skipped. The optimiser is
told the set that was evaluated, as ones and zeros, and not the point that it had suggested.
"""

import warnings

from selfdraft.search.strategies.proposals import Evidence
from selfdraft.search.strategies.skip_space import Units


class BayesianSets:
    """What a Gaussian process thinks the best set of the given size, with an eye on the unknown."""

    name = "bayes"

    def __init__(self, num_units: int, seed: int) -> None:
        self._num_units = num_units
        self._seed = seed

    def propose(self, evidence: Evidence) -> Units | None:
        """The suggestion that follows from all that was scored on this window.

        The process is fitted anew each time: values of another window are not comparable, and a
        fit costs what a few passes of a model cost.
        """
        from bayes_opt import BayesianOptimization  # with its libraries it takes a second

        space = evidence.space
        names = [f"{number:04d}" for number in range(len(space))]
        optimiser = BayesianOptimization(
            f=None,
            pbounds=dict.fromkeys(names, (0.0, 1.0)),
            random_state=self._seed + len(evidence.values),
            verbose=0,
            allow_duplicate_points=True,
        )
        with warnings.catch_warnings():  # a kernel's length at its bound is no news to our user
            warnings.simplefilter("ignore")
            for units, value in evidence.values.items():
                point = {name: float(number in units) for number, name in enumerate(names)}
                optimiser.register(params=point, target=value)
            suggested = optimiser.suggest()
        ranked = sorted(range(len(space)), key=lambda number: -float(suggested[names[number]]))
        return frozenset(ranked[: self._num_units])
