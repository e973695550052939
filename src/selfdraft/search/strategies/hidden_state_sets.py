"""Proposals from hidden states: one walk through the model, then its sets in order of promise.

`search_hidden_states` finds a set for every number of skipped sublayers at once. At a fixed size
its set of that size is proposed. Where the size is free, sizes all over the range are scored first,
then those between the best one's neighbours, halving the gap.
"""

from collections.abc import Sequence
from functools import partial

from selfdraft.model.target import Target
from selfdraft.search.strategies.hidden_state_search import search_hidden_states
from selfdraft.search.strategies.proposals import Evidence, Walk
from selfdraft.search.strategies.skip_space import Units

_NUM_FIRST_SIZES = 6
_LARGEST_SHARE = 0.75  # of all sublayers; a draft without more is no longer a language model


class HiddenStateSets:
    """The sets of one walk on one window; made anew, it walks again."""

    name = "hidden states"

    def __init__(self, target: Target, num_units: int | None = None, num_tokens: int = 1) -> None:
        """`num_units` fixes the size; `num_tokens` are followed through the layers."""
        self._target = target
        self._num_units = num_units
        self._num_tokens = num_tokens
        self._sets: list[Units] | None = None

    def propose(self, evidence: Evidence) -> Units | Walk | None:
        """The walk first; then the next of its sets that is worth a score."""
        if self._sets is None:
            return Walk(partial(self._walk, evidence))
        if self._num_units is not None:
            last = self._sets[-1]
            return last if last not in evidence.values else None
        size = _next_size(self._sets, evidence)
        return None if size is None else self._sets[size]

    def _walk(self, evidence: Evidence) -> None:
        most = self._num_units or round(_LARGEST_SHARE * len(evidence.space))
        window = evidence.windows[-1]
        found = search_hidden_states(self._target, window, most, self._num_tokens)
        self._sets = [evidence.space.units_of(skip_set) for skip_set in found]


def _next_size(sets: Sequence[Units], evidence: Evidence) -> int | None:
    """Index of the next set to score: an even grid, then bisection around its best point."""
    last = len(sets) - 1
    grid = {round(last * (i + 1) / _NUM_FIRST_SIZES) for i in range(_NUM_FIRST_SIZES)} - {0}
    # Small sets are the safe ones: they come first, so that the search pays early.
    for size in sorted(grid):
        if sets[size] not in evidence.values:
            return size
    scored = [size for size, units in enumerate(sets) if units in evidence.values]
    if not scored:
        return None
    best = max(scored, key=lambda size: evidence.values[sets[size]])
    below = max((size for size in scored if size < best), default=0)
    above = min((size for size in scored if size > best), default=best)
    gaps = sorted([(above - best, (above + best) // 2), (best - below, (best + below) // 2)])
    for gap, middle in reversed(gaps):
        if gap > 1 and sets[middle] not in evidence.values:
            return middle
    return None
