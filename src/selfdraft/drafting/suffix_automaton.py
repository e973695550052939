"""A suffix automaton: what followed the last time the text stood as it stands now.

It recognises every substring of the tokens so far (Blumer et al. 1985). A state stands for all
substrings that end at the same places; its link leads to the longest shorter suffix that ends at
more places. So the longest suffix of the text that occurred before is the link of the last state,
and it is known after every token, in constant time on average.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# Links that are followed to note where a state last occurred. Real text needs about ten; a text of
# one repeated token would need all of its length. States further up keep an older occurrence.
_MAX_LINKS = 32

_NOWHERE = -1
_START = 0


@dataclass(frozen=True, slots=True)
class Match:
    """A string that occurs in the text, by the state that stands for it and its length."""

    state: int
    length: int


NO_MATCH = Match(_START, 0)


class SuffixAutomaton:
    """The tokens of one text, and where each of its substrings occurred last."""

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self.token_ids: list[int] = []
        self._next: list[dict[int, int]] = [{}]
        self._link = [_NOWHERE]
        self._length = [0]
        self._last_end = [_NOWHERE]  # where the state last occurred, the text's end left out
        self._last = _START
        for token_id in token_ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """Add one token; constant time on average."""
        self._note_end()
        new = self._add_state({}, self._length[self._last] + 1, len(self.token_ids))
        self.token_ids.append(token_id)
        state = self._last
        while state != _NOWHERE and token_id not in self._next[state]:
            self._next[state][token_id] = new
            state = self._link[state]
        self._link[new] = _START if state == _NOWHERE else self._split(state, token_id)
        self._last = new

    def longest_match(self) -> Match:
        """The longest suffix of the text that also occurs earlier in it."""
        state = max(self._link[self._last], _START)
        return Match(state, self._length[state])

    def extend(self, match: Match, token_id: int) -> Match:
        """The longest suffix of `match` followed by `token_id` that occurs in the text."""
        state, length = match.state, match.length
        while token_id not in self._next[state]:
            if state == _START:
                return NO_MATCH
            state = self._link[state]
            length = self._length[state]
        return Match(self._next[state][token_id], length + 1)

    def continuation(self, match: Match) -> tuple[int, int] | None:
        """What followed the most recent occurrence of `match`: a token, and the matched length.

        A match that occurs only at the very end is shortened until it occurs elsewhere. None if
        nothing is matched.
        """
        state, length = match.state, match.length
        while state != _START and self._last_end[state] + 1 >= len(self.token_ids):
            state = self._link[state]
            length = self._length[state]
        if state == _START:
            return None
        return self.token_ids[self._last_end[state] + 1], length

    def num_continuations(self, match: Match) -> int:
        """How many different tokens have followed `match`."""
        return len(self._next[match.state])

    def _split(self, state: int, token_id: int) -> int:
        """The state of exactly the strings of `state` followed by the token: a clone if need be."""
        old = self._next[state][token_id]
        if self._length[old] == self._length[state] + 1:
            return old
        clone = self._add_state(
            dict(self._next[old]), self._length[state] + 1, self._last_end[old], self._link[old]
        )
        while state != _NOWHERE and self._next[state].get(token_id) == old:
            self._next[state][token_id] = clone
            state = self._link[state]
        self._link[old] = clone
        return clone

    def _note_end(self) -> None:
        """The text is about to grow: its present end becomes an earlier occurrence."""
        state, end = self._last, len(self.token_ids) - 1
        for _ in range(_MAX_LINKS):
            if state <= _START:
                break
            self._last_end[state] = end
            state = self._link[state]

    def _add_state(
        self, following: dict[int, int], length: int, last_end: int, link: int = _NOWHERE
    ) -> int:
        self._next.append(following)
        self._length.append(length)
        self._last_end.append(last_end)
        self._link.append(link)
        return len(self._next) - 1
