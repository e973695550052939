"""The texts of requests that have ended, for later requests of the same engine to copy from."""

from collections import deque
from collections.abc import Sequence
from threading import Lock

from selfdraft.drafting.free.suffix_automaton import NO_MATCH, SuffixAutomaton

SEPARATOR = -1
"""Stands before every text. No token of a model, so no match reaches from one text to another."""

# 480 bytes each in real text, so 125 MB.
_MAX_TOKENS = 262_144

# A text whose beginning is known is kept from there on, and so many tokens before it: what comes
# after them is then found by a match of a length that is hardly told from longer ones.
_OVERLAP = 32


class EarlierTexts:
    """Whole texts, prompt and output, in one automaton. Safe to share between requests.

    At most `max_tokens` are kept: when they are full, the older half goes.
    """

    def __init__(self, max_tokens: int = _MAX_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._text = SuffixAutomaton()
        self._pending: deque[Sequence[int]] = deque()
        self._lock = Lock()  # held by the one who takes texts in; to read needs none

    @property
    def text(self) -> SuffixAutomaton:
        """What there is to copy. It may grow while a request reads it; matches stay valid.

        A request keeps to the automaton that it began with: when the older half goes, another one
        takes its place.
        """
        return self._text

    def add(self, token_ids: Sequence[int]) -> None:
        """Keep a text, or what is new of it. Some microseconds for each new token.

        If another text is just being taken in, this one comes after it, and nobody waits: a request
        that was dropped may end inside of a garbage collection, so inside of this very function.
        """
        self._pending.append(token_ids)
        if self._lock.acquire(blocking=False):
            try:
                while self._pending:
                    self._take_in(self._pending.popleft())
            finally:
                self._lock.release()

    def _take_in(self, token_ids: Sequence[int]) -> None:
        num_known = self._num_known(token_ids)
        if num_known == len(token_ids):
            return
        new = token_ids[max(0, num_known - _OVERLAP) :][1 - self._max_tokens :]
        text = self._text
        if len(text.token_ids) + 1 + len(new) > self._max_tokens:
            room = min(self._max_tokens // 2, self._max_tokens - 1 - len(new))
            text = SuffixAutomaton(text.token_ids[len(text.token_ids) - room :])
        for token_id in (SEPARATOR, *new):
            text.append(token_id)
        self._text = text

    def _num_known(self, token_ids: Sequence[int]) -> int:
        """How many tokens of the text's beginning stand in an earlier text already."""
        match = NO_MATCH
        for num_known, token_id in enumerate(token_ids):
            match = self._text.extend(match, token_id)
            if match.length <= num_known:
                return num_known
        return len(token_ids)
