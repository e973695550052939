"""One generation of an engine: pieces of text while it runs, and the result."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass

from selfdraft.decoding.loop import Round
from selfdraft.decoding.state import DecodingState, FinishReason
from selfdraft.decoding.stats import Stats
from selfdraft.text.text_stream import Piece, TextSink, TokenLogprob


@dataclass(frozen=True, slots=True)
class Result:
    """What a generation wrote."""

    text: str
    """The output as text, without the end token and cut before a stop string. Empty without a
    tokenizer."""
    token_ids: tuple[int, ...]
    """The output's tokens, the one that ended it included."""
    finish_reason: FinishReason | None
    """Why it ended; None if its consumer stopped early."""
    stats: Stats
    logprobs: tuple[TokenLogprob, ...] | None
    """One entry per token, if asked for."""

    def as_dict(self) -> dict[str, object]:
        """The result as plain data, ready for JSON."""
        return {
            "text": self.text,
            "token_ids": list(self.token_ids),
            "finish_reason": self.finish_reason,
            "stats": self.stats.as_dict(),
            "logprobs": None if self.logprobs is None else [asdict(lp) for lp in self.logprobs],
        }


class Generation:
    """One running generation. Iterate over it for pieces of text; stop whenever you like.

    Who decodes several in turn calls `step` instead, which does one round and no more.
    """

    def __init__(
        self,
        rounds: Iterator[Round],
        state: DecodingState,
        sink: TextSink,
        *,
        on_end: Callable[[Sequence[int]], None],
    ) -> None:
        """`on_end` gets the whole text, prompt included, also of a generation that was stopped."""
        self._state = state
        self._sink = sink
        self._text: list[str] = []
        # Do not know this object: dropping it then ends the request at once, and frees its cache.
        self._rounds = _write(rounds, state, sink, self._text, on_end)
        self._pieces = (piece for pieces in self._rounds for piece in pieces)

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def __next__(self) -> Piece:
        return next(self._pieces)

    def step(self) -> list[Piece]:
        """The pieces of one more round, which may be none; the first call reads the prompt too.

        Nothing happens once the generation has ended.
        """
        return next(self._rounds, [])

    def close(self) -> None:
        """End it now. What was written so far stays in `result`; dropping it frees the cache."""
        self._rounds.close()

    @property
    def is_finished(self) -> bool:
        """Whether the last round ended it, by `result.finish_reason`."""
        return self._state.is_finished

    @property
    def stats(self) -> Stats:
        """Counts and seconds so far. It is not copied: it changes with every round."""
        return self._state.stats

    @property
    def result(self) -> Result:
        """What has been written so far; everything, once the iteration has ended."""
        stats = self._state.stats
        return Result(
            text="".join(self._text),
            token_ids=tuple(self._state.token_ids[stats.num_prompt_tokens :]),
            finish_reason=self._state.finish_reason,
            stats=stats,
            logprobs=tuple(self._sink.logprobs) or None,
        )


def _write(
    rounds: Iterator[Round],
    state: DecodingState,
    sink: TextSink,
    text: list[str],
    on_end: Callable[[Sequence[int]], None],
) -> Generator[list[Piece], None, None]:
    """The pieces of each round, whose text `text` takes too."""
    try:
        for _ in rounds:
            if state.is_finished:
                sink.finish()
            pieces = sink.take_pieces()
            text.extend(piece.text for piece in pieces)
            yield pieces
    finally:
        on_end(state.token_ids)
