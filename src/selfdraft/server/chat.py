"""`/v1/chat/completions`: the answer in OpenAI's shape."""

from collections.abc import Iterable, Sequence
from typing import Any

from selfdraft.server.answer_shape import AnswerShape, finite, text_of
from selfdraft.server.job import FinishReason, ShownPiece
from selfdraft.server.protocol import ChatBody
from selfdraft.server.token_texts import TokenTexts
from selfdraft.text.text_stream import TokenLogprob


class ChatShape(AnswerShape):
    """Messages of an assistant."""

    id_prefix = "chatcmpl"
    object_name = "chat.completion"
    chunk_object_name = "chat.completion.chunk"

    def __init__(self, body: ChatBody, model: str, num_choices: int, tokens: TokenTexts) -> None:
        super().__init__(body, model, num_choices)
        self._tokens = tokens
        self._has_logprobs = bool(body.logprobs)
        self._num_top = body.top_logprobs or 0

    def _opening(self, index: int) -> list[dict[str, Any]]:
        return [self._delta(index, {"role": "assistant", "content": ""})]

    def _part(self, index: int, shown: ShownPiece) -> dict[str, Any]:
        delta = self._delta(index, {"content": shown.piece.text})
        return delta | {"logprobs": self._logprobs(shown.logprobs)}

    def _closing(self, index: int, reason: FinishReason) -> dict[str, Any]:
        return self._delta(index, {}) | {"finish_reason": reason}

    def _choice(
        self, index: int, shown: Sequence[ShownPiece], reason: FinishReason
    ) -> dict[str, Any]:
        message = {"role": "assistant", "content": text_of(shown), "refusal": None}
        logprobs = self._logprobs(logprob for piece in shown for logprob in piece.logprobs)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _delta(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _logprobs(self, logprobs: Iterable[TokenLogprob]) -> dict[str, Any] | None:
        if not self._has_logprobs:
            return None
        content = [
            self._entry(logprob.token_id, logprob.logprob)
            | {"top_logprobs": [self._entry(*pair) for pair in logprob.top[: self._num_top]]}
            for logprob in logprobs
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        token = self._tokens.of(token_id)
        return {"token": token.text, "logprob": finite(logprob), "bytes": list(token.raw)}
