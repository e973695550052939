"""How much time the search may take from decoding."""

# A step that was never timed is taken to cost this many decoding passes.
_UNKNOWN_STEP_PASSES = {"score": 2.0, "walk": 12.0}


class TimeBudget:
    """Keeps the search within a share of decode time, counted over the life of an engine.

    Before a step its cost is predicted from the last ones of its kind; it runs once the share of
    all decoding so far covers what was spent and what it will cost.
    """

    def __init__(self, share: float | None) -> None:
        self._share = share
        self.spent_seconds = 0.0
        self.decode_seconds = 0.0
        self._num_passes = 0
        self._step_seconds: dict[str, float] = {}

    def count_decoding(self, seconds: float) -> None:
        """Count one round of decoding, in seconds, without search."""
        self.decode_seconds += seconds
        self._num_passes += 1

    def allows(self, kind: str) -> bool:
        """Whether a step of this kind fits now."""
        if self._share is None:
            return True
        if not self._num_passes:
            return False
        unknown = _UNKNOWN_STEP_PASSES.get(kind, 2.0) * self.decode_seconds / self._num_passes
        expected = self._step_seconds.get(kind, unknown)
        return self.spent_seconds + expected <= self._share * self.decode_seconds

    def charge(self, kind: str, seconds: float) -> None:
        """Count a step of the search."""
        self.spent_seconds += seconds
        before = self._step_seconds.get(kind, seconds)
        # The dearer of the last and the usual: a budget is better kept than used up.
        self._step_seconds[kind] = max(seconds, 0.7 * before + 0.3 * seconds)
