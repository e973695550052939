"""What a search had found after each proposal."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from selfdraft.decoding.stopwatch import now
from selfdraft.model.skip_set import SkipSet
from selfdraft.search.ahead_of_time import Tuning


@dataclass(frozen=True, slots=True)
class BestSoFar:
    """The best set after so many proposals."""

    skip_set: SkipSet
    matchness: float


@dataclass(frozen=True, slots=True)
class SearchCurve:
    """`points[n]` is the best after n proposals; entry 0 is the start, scored."""

    points: Sequence[BestSoFar]
    seconds: float
    """From the first step to the last one."""

    def after(self, num_proposals: int) -> BestSoFar:
        """The best after so many proposals, or after the last one if there were fewer."""
        return self.points[min(num_proposals, len(self.points) - 1)]


def follow(tuning: Tuning, device: torch.device) -> SearchCurve:
    """Run a search to its end and note its best after every proposal."""
    points: list[BestSoFar] = []
    start = now(device)
    for _ in tuning.run():
        if not tuning.agreement.num_tokens:  # a walk came first: nothing is scored yet
            continue
        best = BestSoFar(tuning.best, tuning.agreement.matchness)
        points[tuning.num_proposals :] = [best]
    assert points, "the start is always scored"
    return SearchCurve(points, now(device) - start)
