"""What passes cost on this machine for this model, learned from the passes that run anyway.

Everything is decided in expected tokens per second (ADR 10), so seconds must be known:
of a verification by its rows and context, of a draft step by its plan and context. The machine may
be shared, so a cost is the median of recent passes, and a first pass alone is not believed as long
as anything else is known (kernels are built in it).
"""

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Mapping
from threading import Lock

_RECENT = 31  # passes that a median is taken of
_MIN_PASSES = 2  # with fewer, a row count is estimated from its neighbours
_MAX_AGE = 512  # passes after which a row count that was not run again is forgotten
_MAX_PLANS = 64  # a search times many; the oldest are forgotten

# What one more row costs, as a share of a pass of one, where nothing has been measured yet.
_ROW_SHARE = 0.03

# Contexts are compared between bins of so many tokens; the slope is fitted anew after so many
# passes.
_CONTEXT_BIN = 128
_PER_BIN = 9
_MAX_BINS = 128
_REFIT_INTERVAL = 32


class CostModel:
    """Seconds of a verification and of a draft step. Safe to share between requests.

    A verification of n rows behind c tokens takes `base(n) + slope * n * c`: each row reads every
    key. `base` rises with n and is interpolated between the row counts that have been seen.

    A plan that never ran is predicted from `relative_bytes(plan)`: the weight bytes that a step
    reads, as a share of the target's.
    """

    def __init__(self, relative_bytes: Callable[[Hashable], float] = lambda plan: 1.0) -> None:
        self._relative_bytes = relative_bytes
        self._verify: dict[int, deque[tuple[int, float]]] = {}
        self._newest: dict[int, int] = {}  # the number of each row count's last pass
        self._bases: dict[int, float] = {}
        self._draft: OrderedDict[Hashable, deque[tuple[int, float]]] = OrderedDict()
        self._bins: OrderedDict[tuple[int, int], deque[float]] = OrderedDict()
        self._slope = 0.0
        self._num_observed = 0
        self._curve: tuple[list[int], list[float]] | None = None
        self._lock = Lock()

    @property
    def is_measured(self) -> bool:
        """Whether a verification has been timed; until then every cost is relative to one pass."""
        return bool(self._verify)

    def observe_verify(self, num_rows: int, context: int, seconds: float) -> None:
        """A verification of `num_rows` nodes behind `context` tokens took `seconds`."""
        with self._lock:
            self._verify.setdefault(num_rows, deque(maxlen=_RECENT)).append((context, seconds))
            self._bases.pop(num_rows, None)
            key = (num_rows, context // _CONTEXT_BIN)
            self._bins.setdefault(key, deque(maxlen=_PER_BIN)).append(seconds)
            self._bins.move_to_end(key)
            if len(self._bins) > _MAX_BINS:
                self._bins.popitem(last=False)
            self._num_observed += 1
            self._newest[num_rows] = self._num_observed
            if self._num_observed % _REFIT_INTERVAL == 0:
                self._slope = _fit_slope(self._bins)
                self._bases.clear()
                self._forget_old()
            self._curve = None

    def observe_draft(self, plan: Hashable, context: int, seconds: float) -> None:
        """One draft step of `plan` behind `context` tokens took `seconds`."""
        with self._lock:
            self._draft.setdefault(plan, deque(maxlen=_RECENT)).append((context, seconds))
            self._draft.move_to_end(plan)
            if len(self._draft) > _MAX_PLANS:
                self._draft.popitem(last=False)

    def verify_seconds(self, num_rows: int, context: int) -> float:
        """A verification of `num_rows` nodes behind `context` tokens; never falls with rows."""
        with self._lock:
            return self._verify_seconds(num_rows, context)

    def verify_curve(self, max_rows: int, context: int) -> list[float]:
        """`verify_seconds` of 1, 2, ... `max_rows` nodes."""
        with self._lock:
            return [self._verify_seconds(rows, context) for rows in range(1, max_rows + 1)]

    def draft_seconds(self, plan: Hashable, context: int) -> float:
        """One draft step of `plan` behind `context` tokens."""
        with self._lock:
            passes = self._draft.get(plan, ())
            if len(passes) >= _MIN_PASSES:
                return self._at_context(passes, 1, context)
            return self._predicted(plan, context)

    def num_draft_passes(self, plan: Hashable) -> int:
        """How many recent draft steps of `plan` were timed."""
        with self._lock:
            return len(self._draft.get(plan, ()))

    def _verify_seconds(self, num_rows: int, context: int) -> float:
        if not self._verify:
            return 1.0 + _ROW_SHARE * (num_rows - 1)
        if self._curve is None:
            self._curve = self._fit_curve()
        return _interpolate(*self._curve, num_rows) + self._slope * num_rows * context

    def _predicted(self, plan: Hashable, context: int) -> float:
        """From the measured plan that is nearest in bytes; the target is one, too.

        Only the difference in bytes is scaled, so that what a step costs besides bytes stays.
        """
        relative = self._relative_bytes(plan)
        one_row = self._verify_seconds(1, context)
        nearest, seconds = 1.0, one_row
        for other, passes in self._draft.items():
            share = self._relative_bytes(other)
            if len(passes) >= _MIN_PASSES and abs(share - relative) < abs(nearest - relative):
                nearest, seconds = share, self._at_context(passes, 1, context)
        return max(seconds + (relative - nearest) * one_row, relative * one_row * 0.5)

    def _fit_curve(self) -> tuple[list[int], list[float]]:
        """Row counts in rising order and their seconds at no context, never falling."""
        trusted = {n: p for n, p in self._verify.items() if len(p) >= _MIN_PASSES} or self._verify
        counts = sorted(trusted)
        for n in counts:
            if n not in self._bases:
                self._bases[n] = self._at_context(trusted[n], n, 0)
        seconds = [self._bases[n] for n in counts]
        return counts, _never_falling(seconds, [len(trusted[n]) for n in counts])

    def _forget_old(self) -> None:
        """Row counts that have not been run for long: else what was dear once stays so."""
        for num_rows, newest in list(self._newest.items()):
            if self._num_observed - newest > _MAX_AGE:
                del self._newest[num_rows], self._verify[num_rows]
                self._bases.pop(num_rows, None)

    def _at_context(
        self, passes: Collection[tuple[int, float]], num_rows: int, context: int
    ) -> float:
        """Median of the passes, each moved to `context` along the slope."""
        rate = self._slope * num_rows
        # A slope that is off must not make a pass free.
        return _lower_median([max(s + rate * (context - c), 0.1 * s) for c, s in passes])


def _lower_median(values: list[float]) -> float:
    """The lower one of two in the middle: what disturbs a pass only ever adds time."""
    return sorted(values)[(len(values) - 1) // 2]


def _fit_slope(bins: Mapping[tuple[int, int], deque[float]]) -> float:
    """Seconds per row and token of context: the median over pairs of contexts (Theil and Sen)."""
    slopes = []
    known = sorted((key, _lower_median([*bin_])) for key, bin_ in bins.items() if len(bin_) > 2)
    for i, ((rows, low), seconds) in enumerate(known):
        for (other_rows, high), more in known[i + 1 :]:
            if other_rows == rows:
                slopes.append((more - seconds) / ((high - low) * _CONTEXT_BIN * rows))
    return max(0.0, _lower_median(slopes)) if slopes else 0.0


def _never_falling(values: list[float], weights: list[int]) -> list[float]:
    """The nearest sequence that never falls: neighbours out of order share their mean."""
    blocks: list[tuple[float, int, int]] = []  # (mean, weight, length)
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, total, length = blocks.pop()
            joint = total + block[1]
            block = ((mean * total + block[0] * block[1]) / joint, joint, length + block[2])
        blocks.append(block)
    return [mean for mean, _, length in blocks for _ in range(length)]


def _interpolate(counts: list[int], seconds: list[float], num_rows: int) -> float:
    """Between two row counts on the line; outside along the mean rise seen, or the prior's."""
    per_row = _ROW_SHARE * seconds[0]
    if num_rows <= counts[0]:
        return max(seconds[0] - per_row * (counts[0] - num_rows), seconds[0] / 2)
    if num_rows >= counts[-1]:
        mean_rise = (seconds[-1] - seconds[0]) / max(1, counts[-1] - counts[0])
        return seconds[-1] + max(per_row, mean_rise) * (num_rows - counts[-1])
    high = bisect_left(counts, num_rows)
    low = high - 1
    share = (num_rows - counts[low]) / (counts[high] - counts[low])
    return seconds[low] + share * (seconds[high] - seconds[low])
