"""Which skip set to try next: strategies behind one protocol.

A strategy sees what was scored on the present text (`Evidence`) and names one set. All of them can
be run on the same recorded text and compared (`python -m research search`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from selfdraft.search.matchness import Window
from selfdraft.search.strategies.skip_space import SkipSpace, Units

# Attempts to find a set that was not scored yet; where all neighbours were, one is tried again.
_MAX_ATTEMPTS = 32


@dataclass(slots=True, eq=False)
class Evidence:
    """What is known about sets.

    `values` are relative to the best set's on the same windows, so that those of different windows
    can be set side by side; the best set's own is 1.
    """

    space: SkipSpace
    windows: tuple[Window, ...]
    best: Units
    values: dict[Units, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Walk:
    """Work that must be done before the next proposal, and costs as much as several scores."""

    run: Callable[[], None]


class Proposer(Protocol):
    """A strategy."""

    name: str

    def propose(self, evidence: Evidence) -> Units | Walk | None:
        """The next set to score, or what must be done first; None if there is no more to say."""
        ...


class RandomSets:
    """Any set of the given size, each with the same chance."""

    name = "random"

    def __init__(self, num_units: int, seed: int) -> None:
        self._num_units = num_units
        self._random = Random(seed)

    def propose(self, evidence: Evidence) -> Units | None:
        """A random set, new if chance allows."""
        numbers = range(len(evidence.space))
        return _unscored(
            evidence.values,
            (
                frozenset(self._random.sample(numbers, self._num_units))
                for _ in range(_MAX_ATTEMPTS)
            ),
        )


class Swaps:
    """The best set with one or two units exchanged; where the size is free, also more or fewer."""

    name = "swap"

    def __init__(self, seed: int, *, is_size_fixed: bool) -> None:
        self._random = Random(seed)
        self._is_size_fixed = is_size_fixed

    def propose(self, evidence: Evidence) -> Units | None:
        """A neighbour of the best set."""
        neighbours = (self._neighbour(evidence) for _ in range(_MAX_ATTEMPTS))
        return _unscored(evidence.values, (units for units in neighbours if units is not None))

    def _neighbour(self, evidence: Evidence) -> Units | None:
        inside = sorted(evidence.best)
        outside = sorted(set(range(len(evidence.space))) - evidence.best)
        num_out = num_in = self._random.choice((1, 1, 2))
        if not self._is_size_fixed:
            num_out, num_in = self._random.choice(((1, 1), (0, 1), (1, 0), (0, 2)))
        if num_out > len(inside) or num_in > len(outside):
            return None
        leaving = self._random.sample(inside, num_out)
        joining = self._random.sample(outside, num_in)
        return evidence.best.difference(leaving).union(joining)


class InTurn:
    """The first of several strategies that has something to say."""

    name = "in turn"

    def __init__(self, proposers: Sequence[Proposer]) -> None:
        self._proposers = proposers

    def propose(self, evidence: Evidence) -> Units | Walk | None:
        """The proposal of the first strategy that makes one; `name` becomes its name."""
        for proposer in self._proposers:
            proposal = proposer.propose(evidence)
            if proposal is not None:
                self.name = proposer.name
                return proposal
        return None


class EveryNth:
    """Every `interval`-th proposal from one strategy, all others from another (beta in SWIFT)."""

    name = "mixed"

    def __init__(self, usual: Proposer, rare: Proposer, interval: int) -> None:
        self._usual, self._rare, self._interval = usual, rare, interval
        self._num_proposals = 0

    def propose(self, evidence: Evidence) -> Units | Walk | None:
        """The proposal of the strategy whose turn it is; `name` becomes its name."""
        self._num_proposals += 1
        is_rare = self._num_proposals % self._interval == 0
        proposer = self._rare if is_rare else self._usual
        self.name = proposer.name
        return proposer.propose(evidence)


class Given:
    """Sets that are known from before: each is scored once on every new window."""

    name = "remembered"

    def __init__(self, sets: Sequence[Units]) -> None:
        self._waiting = list(dict.fromkeys(sets))

    def propose(self, evidence: Evidence) -> Units | None:
        """The next one that was not scored on this text."""
        while self._waiting:
            units = self._waiting.pop(0)
            if units not in evidence.values:
                return units
        return None


def _unscored(values: Mapping[Units, float], candidates: Iterator[Units]) -> Units | None:
    last = None
    for units in candidates:
        if units not in values:
            return units
        last = units
    return last
