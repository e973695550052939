"""One request while the worker is at it: its choices one after the other, a round at a time."""

from collections.abc import Sequence
from time import perf_counter

from selfdraft.decoding.stats import Stats
from selfdraft.engine import Engine
from selfdraft.generation import Generation
from selfdraft.server.job import FinishReason, Job, ShownPiece, Speculation, Summary, Written
from selfdraft.server.metrics import Metrics
from selfdraft.text.text_stream import Piece

_REASONS: dict[str, FinishReason] = {
    "eos": "stop",
    "stop": "stop",
    "length": "length",
    "context": "length",
}


class JobRun:
    """Takes the turns of one job. Belongs to the worker thread.

    Choices do not take turns among themselves: a request has one cache at a time, and its share of
    the worker does not grow with `n`.
    """

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self.job = job
        self._metrics = metrics
        self._generation: Generation | None = None
        self._choice = 0
        self._num_logprobs_shown = 0
        self._started = perf_counter()
        self._last_token: float | None = None
        self._first_token_seconds = 0.0
        self._stats: list[Stats] = []
        metrics.observe_queue(self._started - job.submitted)

    @property
    def is_over(self) -> bool:
        """Whether every choice is written."""
        return self._choice == len(self.job.asks)

    def step(self, engine: Engine) -> None:
        """One round, the first one with its prefill, and the events that come of it."""
        if self._generation is None:
            self._generation = self._begin(engine)
        generation = self._generation
        num_before = generation.stats.num_new_tokens
        pieces = generation.step()
        self._count_tokens(generation.stats.num_new_tokens - num_before)
        reason = self._end_choice(generation, pieces) if generation.is_finished else None
        if reason is None and pieces:
            self.job.deliver(Written(self._choice, self._shown(generation, pieces), None))

    def close(self) -> None:
        """Stop here: the cache is freed, and what was drafted is counted."""
        if self._generation is not None:
            self._generation.close()
            self._keep_stats(self._generation)
            self._generation = None

    def summary(self) -> Summary:
        """What the request took so far."""
        stats = self._stats
        by_depth = [s.accepted_by_depth for s in stats]
        depth = max((len(counts) for counts in by_depth), default=0)
        return Summary(
            num_prompt_tokens=self.job.num_prompt_tokens,
            num_new_tokens=sum(s.num_new_tokens for s in stats),
            first_token_seconds=self._first_token_seconds,
            queue_seconds=self._started - self.job.submitted,
            prefill_seconds=sum(s.prefill_seconds for s in stats),
            decode_seconds=sum(s.decode_seconds for s in stats),
            speculation=Speculation(
                num_drafts=sum(s.drafted_by_depth[0] for s in stats if s.drafted_by_depth),
                num_draft_tokens=sum(s.num_drafted for s in stats),
                num_accepted_tokens=sum(s.num_accepted for s in stats),
                num_accepted_per_position=tuple(
                    sum(counts[d] for counts in by_depth if d < len(counts)) for d in range(depth)
                ),
            ),
        )

    def _begin(self, engine: Engine) -> Generation:
        ask = self.job.asks[self._choice]
        self._num_logprobs_shown = 0
        return engine.stream(
            ask.prompt, draft=ask.draft, logits_processors=ask.processors, **ask.options
        )

    def _end_choice(self, generation: Generation, pieces: Sequence[Piece]) -> FinishReason:
        finish_reason = generation.result.finish_reason
        assert finish_reason is not None, "it is finished"
        reason = _REASONS[finish_reason]
        self.job.deliver(Written(self._choice, self._shown(generation, pieces), reason))
        self.close()
        self._choice += 1
        self._metrics.count_choice(reason)
        if self.is_over:
            self._metrics.observe_end(perf_counter() - self.job.submitted)
        return reason

    def _shown(self, generation: Generation, pieces: Sequence[Piece]) -> tuple[ShownPiece, ...]:
        """The pieces with the log-probabilities of their tokens."""
        if not self.job.asks[self._choice].options.get("logprobs"):
            return tuple(ShownPiece(piece, ()) for piece in pieces)
        logprobs = generation.result.logprobs or ()
        shown = []
        for piece in pieces:
            start = self._num_logprobs_shown
            self._num_logprobs_shown += len(piece.token_ids)
            shown.append(ShownPiece(piece, logprobs[start : self._num_logprobs_shown]))
        return tuple(shown)

    def _count_tokens(self, num_tokens: int) -> None:
        if not num_tokens:
            return
        now = perf_counter()
        self._metrics.count_new_tokens(num_tokens)
        if self._last_token is None:
            self._first_token_seconds = now - self.job.submitted
            self._metrics.observe_first_token(self._first_token_seconds)
            self._metrics.count_prompt_tokens(self.job.num_prompt_tokens)
        else:
            self._metrics.observe_between_tokens(now - self._last_token, num_tokens)
        self._last_token = now

    def _keep_stats(self, generation: Generation) -> None:
        self._stats.append(generation.stats)
        self._metrics.count_drafts(generation.stats)
