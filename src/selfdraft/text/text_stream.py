"""Tokens become text: whole characters only, and never past a stop string."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import cast

import torch
from transformers import PreTrainedTokenizerBase

from selfdraft.decoding.state import NewToken
from selfdraft.decoding.token_tree import Source
from selfdraft.text.prompt import special_tokens

_REPLACEMENT = "\ufffd"
"""What a tokenizer writes for bytes that are not, or not yet, a character."""

_CONTEXT_TOKENS = 32
_MOST_BYTES = 4  # of a character in UTF-8


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the output, as it becomes certain."""

    text: str
    token_ids: tuple[int, ...]
    sources: tuple[Source, ...]
    """Who named each token."""

    @property
    def from_draft(self) -> bool:
        """Whether every token of the piece was drafted and accepted, none the target's bonus."""
        return bool(self.sources) and "target" not in self.sources


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probabilities at one position, by the target's own logits before any warping."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens and their log-probabilities, best first."""


class Detokenizer:
    """Turns token ids into text one at a time; the parts add up to decoding them all at once.

    Only the tokens since the last whole character, and those before them that give context, are
    decoded again. `context` are tokens that stand before the first one: a tokenizer may write a
    word with a space before it only behind another, and a text may end inside a character.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._token_ids = list(context[-_CONTEXT_TOKENS:])
        self._context_start = 0
        self._pending_start = len(self._token_ids) - self._num_unfinished()
        self._unfinished = self._pending_text()

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._token_ids.append(token_id)
        text = self._pending_text()
        if text.endswith(_REPLACEMENT):
            return ""
        return self._take(text)

    def flush(self) -> str:
        """The text of an incomplete character at the very end."""
        return self._take(self._pending_text())

    def hidden(self, token_id: int) -> str:
        """What a special token is called, which no text shows; empty for any other token."""
        name = self._tokenizer.convert_ids_to_tokens(token_id)
        return name if name in self._special else ""

    def _num_unfinished(self) -> int:
        """Tokens at the end of the context that are the beginning of a character."""
        for number in range(min(_MOST_BYTES, len(self._token_ids) + 1)):
            text = self._decode(self._token_ids[: len(self._token_ids) - number])
            if not text.endswith(_REPLACEMENT):
                return number
        return 0  # the context ends in bytes that are no character at all

    def _take(self, text: str) -> str:
        # The beginning of a character that never became one is part of the context.
        text, self._unfinished = text.removeprefix(self._unfinished), ""
        if text:  # a token without text gives the next one no context
            self._context_start = self._pending_start
        self._pending_start = len(self._token_ids)
        return text

    def _pending_text(self) -> str:
        context = self._decode(self._token_ids[self._context_start : self._pending_start])
        return self._decode(self._token_ids[self._context_start :])[len(context) :]

    @cached_property
    def _special(self) -> frozenset[str]:
        return frozenset(special_tokens(self._tokenizer))

    def _decode(self, token_ids: list[int]) -> str:
        text = self._tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return cast(str, text)


class StopStrings:
    """Cuts a growing text before the first stop string, holding back what might become one.

    A stop string may be, or hold, a special token, which is looked for and not shown.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""
        self._is_shown: list[bool] = []  # for each character that is held

    @property
    def is_used(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._strings)

    def push(self, text: str, hidden: str = "") -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string was found.

        `hidden` comes after `text`, and is never shown.
        """
        self._held += text + hidden
        self._is_shown += [True] * len(text) + [False] * len(hidden)
        found = [index for s in self._strings if (index := self._held.find(s)) >= 0]
        if found:
            shown = self._release(min(found))
            self._release(len(self._held))
            return shown, True
        return self._release(len(self._held) - self._num_chars_to_hold()), False

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        shown = "".join(compress(self._held[:length], self._is_shown))
        self._held, self._is_shown = self._held[length:], self._is_shown[length:]
        return shown

    def _num_chars_to_hold(self) -> int:
        """Length of the longest end of the text that begins some stop string."""
        longest = max((len(s) for s in self._strings), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-length:]) for s in self._strings):
                return length
        return 0


class TextSink:
    """Takes committed tokens; gives pieces of text, log-probabilities, and the word to stop.

    Without a tokenizer a piece is one token and no text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        stop: Sequence[str],
        num_logprobs: int,
        eos_token_ids: frozenset[int],
        context: Sequence[int] = (),
    ) -> None:
        """`context` are the tokens that the output continues as one text."""
        self._detokenizer = None if tokenizer is None else Detokenizer(tokenizer, context)
        self._stop = StopStrings(stop)
        self._num_logprobs = num_logprobs
        self._eos_token_ids = eos_token_ids
        self._waiting: list[NewToken] = []
        self._pieces: list[Piece] = []
        self.logprobs: list[TokenLogprob] = []

    def push(self, token: NewToken) -> bool:
        """Take one token; True if it completes a stop string."""
        self._waiting.append(token)
        if self._num_logprobs:
            self.logprobs.append(_token_logprob(token, self._num_logprobs))
        text, hidden = "", ""
        if self._detokenizer is not None and token.token_id not in self._eos_token_ids:
            text = self._detokenizer.push(token.token_id)
            hidden = self._detokenizer.hidden(token.token_id) if self._stop.is_used else ""
        shown, stopped = self._stop.push(text, hidden)
        if shown or self._detokenizer is None:
            self._add_piece(shown)
        if stopped:
            self._detokenizer = None
        return stopped

    def take_pieces(self) -> list[Piece]:
        """The pieces since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> None:
        """Release everything held back: nothing follows."""
        text = self._detokenizer.flush() if self._detokenizer else ""
        shown, stopped = self._stop.push(text)
        self._add_piece(shown if stopped else shown + self._stop.flush())

    def _add_piece(self, text: str) -> None:
        if not text and not self._waiting:
            return
        token_ids = tuple(token.token_id for token in self._waiting)
        sources = tuple(token.source for token in self._waiting)
        self._pieces.append(Piece(text, token_ids, sources))
        self._waiting = []


def _token_logprob(token: NewToken, num_top: int) -> TokenLogprob:
    logprobs = torch.log_softmax(token.logits.float(), dim=-1)
    top = logprobs.topk(min(num_top, len(logprobs)))
    return TokenLogprob(
        token_id=token.token_id,
        logprob=float(logprobs[token.token_id]),
        top=tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)),
    )
