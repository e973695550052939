"""`/v1/completions`: the answer in OpenAI's shape."""

from collections.abc import Sequence
from typing import Any

from selfdraft.server.answer_shape import AnswerShape, finite, text_of
from selfdraft.server.job import FinishReason, ShownPiece
from selfdraft.server.protocol import CompletionBody
from selfdraft.server.token_texts import TokenTexts
from selfdraft.text.text_stream import TokenLogprob


class CompletionShape(AnswerShape):
    """Texts that go on after a prompt."""

    id_prefix = "cmpl"
    object_name = "text_completion"
    chunk_object_name = "text_completion"

    def __init__(
        self, body: CompletionBody, model: str, num_choices: int, tokens: TokenTexts
    ) -> None:
        super().__init__(body, model, num_choices)
        self._tokens = tokens
        self._num_top = body.logprobs
        self._num_chars: dict[int, int] = {}  # written of each choice, where a stream goes on

    def _part(self, index: int, shown: ShownPiece) -> dict[str, Any]:
        return self._text(index, [shown], None)

    def _closing(self, index: int, reason: FinishReason) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def _choice(
        self, index: int, shown: Sequence[ShownPiece], reason: FinishReason
    ) -> dict[str, Any]:
        return self._text(index, shown, reason)

    def _text(
        self, index: int, shown: Sequence[ShownPiece], reason: FinishReason | None
    ) -> dict[str, Any]:
        logprobs = None if self._num_top is None else self._logprobs(index, shown)
        return {
            "index": index,
            "text": text_of(shown),
            "logprobs": logprobs,
            "finish_reason": reason,
        }

    def _logprobs(self, index: int, shown: Sequence[ShownPiece]) -> dict[str, Any]:
        """Four lists with an entry for each token."""
        entries: list[TokenLogprob] = []
        offsets: list[int] = []
        start = self._num_chars.get(index, 0)
        for piece in shown:
            # Pieces begin where characters do; a token within may be a part of one.
            offset, end = start, start + len(piece.piece.text)
            for entry in piece.logprobs:
                entries.append(entry)
                offsets.append(min(offset, end))
                token = self._tokens.of(entry.token_id)
                offset += len(token.text) if token.is_whole else 0
            start = end
        self._num_chars[index] = start
        return {
            "tokens": [self._tokens.of(entry.token_id).text for entry in entries],
            "token_logprobs": [finite(entry.logprob) for entry in entries],
            "top_logprobs": [self._top(entry) for entry in entries],
            "text_offset": offsets,
        }

    def _top(self, entry: TokenLogprob) -> dict[str, float]:
        """The likeliest tokens, and the one that was chosen if it is none of them."""
        pairs = [*entry.top[: self._num_top], (entry.token_id, entry.logprob)]
        return {self._tokens.of(token_id).text: finite(logprob) for token_id, logprob in pairs}
