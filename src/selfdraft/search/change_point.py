"""Noticing that a draft has become worse: a change-point rule on accepted lengths.

Page's CUSUM (1954) for a Bernoulli rate. A round whose draft had k tokens accepted is k successes,
and one failure if a drafted token was refused. With q the usual rate of failures, the sum of

    log(r(x) / p(x)),    p: failures at rate q,    r: failures at `factor` times q

falls while acceptance is as usual and rises once it is worse; it is never let below zero. Above
`threshold` the text has changed. The usual rate is learned from the first `warm_up` positions
after a start.
"""

import math

_LARGEST_RATE = 0.95


class AcceptanceDrop:
    """Watches one draft. Its false alarms are about exp(threshold) failures apart, or more."""

    def __init__(self, factor: float = 2.0, threshold: float = 4.0, warm_up: int = 64) -> None:
        self._factor, self._threshold, self._warm_up = factor, threshold, warm_up
        self.restart()

    def restart(self) -> None:
        """Forget what was usual: another draft, or another text."""
        self._num_positions = 0
        self._num_refused = 0
        self._sum = 0.0

    def observe(self, num_accepted: int, *, was_refused: bool) -> bool:
        """Take one round; True if acceptance has dropped."""
        if self._num_positions < self._warm_up:
            self._num_positions += num_accepted + was_refused
            self._num_refused += was_refused
            return False
        usual = (self._num_refused + 1) / (self._num_positions + 2)
        worse = min(usual * self._factor, _LARGEST_RATE)
        if worse <= usual:
            return False  # nothing is left to lose
        self._sum += num_accepted * math.log((1 - worse) / (1 - usual))
        self._sum = max(self._sum, 0.0)
        if was_refused:
            self._sum += math.log(worse / usual)
        return self._sum > self._threshold
