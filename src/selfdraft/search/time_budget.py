"""How much time the search may take from decoding, and what that promise is worth.

A step runs only once the share of all decoding so far covers what was spent and what the step is
expected to cost. A step that costs more than expected, by some *surprise*, has overdrawn the share
by that much at most; nothing runs until decoding has made up for it, so surprises do not add up:

    spent <= share * decoded + the largest surprise so far        (at every moment)

Hence spent is within a tenth of the share once decoding took 10 times the largest surprise, over
the share: 20 seconds, if a step of 0.05 s took three times as long under a share of 5 %. Before
that, no rule could know better: a step cannot be stopped half way.
"""

from collections import deque

# A step that was never timed is taken to cost this many decoding passes.
_UNKNOWN_STEP_PASSES = {"score": 2.0, "walk": 12.0}

# A step is expected to cost as much as the dearest of so many before it. That delays the search
# once, by the difference; it does not make it slower.
_NUM_REMEMBERED = 8


class TimeBudget:
    """Keeps the search within a share of decode time, counted over the life of an engine."""

    def __init__(self, share: float | None) -> None:
        self._share = share
        self.spent_seconds = 0.0
        self.decode_seconds = 0.0
        self._num_passes = 0
        self._step_seconds: dict[str, deque[float]] = {}

    def count_decoding(self, seconds: float) -> None:
        """Count one round of decoding, in seconds, without search."""
        self.decode_seconds += seconds
        self._num_passes += 1

    def expected_seconds(self, kind: str) -> float:
        """What a step of this kind is expected to cost; 0 before any decoding was counted."""
        if kind in self._step_seconds:
            return max(self._step_seconds[kind])
        usual = self.decode_seconds / max(1, self._num_passes)
        return _UNKNOWN_STEP_PASSES.get(kind, 2.0) * usual

    def allows(self, kind: str, num_steps: int = 1) -> bool:
        """Whether so many steps of this kind fit now."""
        if self._share is None:
            return True
        if not self._num_passes:
            return False
        expected = num_steps * self.expected_seconds(kind)
        return self.spent_seconds + expected <= self._share * self.decode_seconds

    def charge(self, kind: str, seconds: float) -> None:
        """Count a step of the search."""
        self.spent_seconds += seconds
        self._step_seconds.setdefault(kind, deque(maxlen=_NUM_REMEMBERED)).append(seconds)
