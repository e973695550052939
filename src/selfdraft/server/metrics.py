"""What Prometheus is told: vLLM's names with our prefix, so that dashboards need no new ideas."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from selfdraft.decoding.stats import Stats

_PREFIX = "selfdraft:"

# Seconds. A token takes milliseconds, a queue minutes.
_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5)
_WAIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is true at the moment, read when Prometheus asks."""

    num_running: int = 0
    num_waiting: int = 0
    is_searching: bool = False
    num_proposals: int = 0
    num_skipped: int = 0
    weight_bits: int = 16


class Metrics:
    """Counters and histograms of one application, with a registry of its own."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_SnapshotCollector(snapshot))
        self._choices = self._counter(
            "request_success", "Outputs that ended, by why.", ["finished_reason"]
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self._new_tokens = self._counter("generation_tokens", "Tokens written.")
        self._drafts = self._counter("spec_decode_num_drafts", "Rounds that drafted.")
        self._draft_tokens = self._counter("spec_decode_num_draft_tokens", "Positions drafted.")
        self._accepted = self._counter("spec_decode_num_accepted_tokens", "Drafted tokens kept.")
        self._accepted_per_position = self._counter(
            "spec_decode_num_accepted_tokens_per_pos",
            "Rounds whose draft was right up to this position.",
            ["position"],
        )
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From a request to its first token.", _WAIT_BUCKETS
        )
        self._between_tokens = self._histogram(
            "inter_token_latency_seconds", "Time per token after the first.", _TOKEN_BUCKETS
        )
        self._whole = self._histogram(
            "e2e_request_latency_seconds", "From a request to its end.", _REQUEST_BUCKETS
        )
        self._queue = self._histogram(
            "request_queue_time_seconds", "From a request to its first turn.", _WAIT_BUCKETS
        )

    def exposition(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    def observe_queue(self, seconds: float) -> None:
        """A request waited so long for its first turn."""
        self._queue.observe(seconds)

    def observe_first_token(self, seconds: float) -> None:
        """Count a request whose first token came after `seconds`."""
        self._first_token.observe(seconds)

    def observe_between_tokens(self, seconds: float, num_tokens: int) -> None:
        """Count `num_tokens` that came `seconds` after the one before them."""
        for _ in range(num_tokens):
            self._between_tokens.observe(seconds / num_tokens)

    def observe_end(self, seconds: float) -> None:
        """Count a request that was answered after `seconds`."""
        self._whole.observe(seconds)

    def count_prompt_tokens(self, num_tokens: int) -> None:
        """Count a prompt of `num_tokens` that was read."""
        self._prompt_tokens.inc(num_tokens)

    def count_new_tokens(self, num_tokens: int) -> None:
        """Count `num_tokens` that were written."""
        self._new_tokens.inc(num_tokens)

    def count_choice(self, finished_reason: str) -> None:
        """An output ended: "stop", "length", "abort" (its reader left) or "error"."""
        self._choices.labels(finished_reason).inc()

    def count_drafts(self, stats: Stats) -> None:
        """An output's drafts, once it has ended."""
        if stats.drafted_by_depth:
            self._drafts.inc(stats.drafted_by_depth[0])
        self._draft_tokens.inc(stats.num_drafted)
        self._accepted.inc(stats.num_accepted)
        for position, count in enumerate(stats.accepted_by_depth):
            self._accepted_per_position.labels(str(position)).inc(count)

    def _counter(self, name: str, about: str, labels: list[str] | None = None) -> Counter:
        return Counter(_PREFIX + name, about, labels or [], registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(_PREFIX + name, about, registry=self._registry, buckets=buckets)


class _SnapshotCollector(Collector):
    """Gauges that are read when they are asked for, so that nothing has to keep them up to date."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing: the registry then does not call `collect` when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        now = self._snapshot()
        gauges = {
            "num_requests_running": ("Requests that take turns.", now.num_running),
            "num_requests_waiting": ("Requests in the queue.", now.num_waiting),
            "search_is_searching": ("1 while a better draft is looked for.", now.is_searching),
            "plan_skipped_sublayers": ("Sublayers that the draft skips now.", now.num_skipped),
            "plan_weight_bits": ("Bits of the draft's weights now.", now.weight_bits),
        }
        for name, (about, value) in gauges.items():
            yield GaugeMetricFamily(_PREFIX + name, about, value=float(value))
        yield CounterMetricFamily(
            _PREFIX + "search_proposals", "Skip sets that were scored.", value=now.num_proposals
        )
