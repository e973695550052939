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
    """The tokens of one text, and where each of its substrings occurred last.

    While one thread appends, others may ask: what they get is true of the text before the token or
    after it, for nothing leads to a state that is not complete. A match stays one while the text
    grows.
    """

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
        state = self._first_followed_by(token_id)
        link = _START if state == _NOWHERE else self._split(state, token_id)
        new = self._add_state({}, self._length[self._last] + 1, len(self.token_ids), link)
        self.token_ids.append(token_id)
        state = self._last
        while state != _NOWHERE and token_id not in self._next[state]:
            self._next[state][token_id] = new
            state = self._link[state]
        self._last = new

    def longest_match(self) -> Match:
        """The longest suffix of the text that also occurs earlier in it."""
        state = max(self._link[self._last], _START)
        return Match(state, self._length[state])

    def extend(self, match: Match, token_id: int) -> Match:
        """The longest suffix of `match` followed by `token_id` that occurs in the text."""
        state, length = self._state_of(match), match.length
        while token_id not in self._next[state]:
            if state == _START:
                return NO_MATCH
            state = self._link[state]
            length = min(length, self._length[state])
        return Match(self._next[state][token_id], length + 1)

    def continuation(self, match: Match) -> tuple[int, int] | None:
        """What followed the most recent occurrence of `match`: a token, and the matched length.

        A match that occurs only at the very end is shortened until it occurs elsewhere. None if
        nothing is matched.
        """
        state, length = self._state_of(match), match.length
        while state != _START:
            after = self._last_end[state] + 1  # read once, for another thread may change it
            if after < len(self.token_ids):
                return self.token_ids[after], length
            state = self._link[state]
            length = min(length, self._length[state])
        return None

    def num_continuations(self, match: Match) -> int:
        """How many different tokens have followed `match`."""
        return len(self._next[self._state_of(match)])

    def _state_of(self, match: Match) -> int:
        """The state that stands for `match` by now: it is a shorter one's if it was split off."""
        state = match.state
        while state != _START and match.length <= self._length[self._link[state]]:
            state = self._link[state]
        return state

    def _first_followed_by(self, token_id: int) -> int:
        """The state of the longest suffix of the text that the token has followed before."""
        state = self._last
        while state != _NOWHERE and token_id not in self._next[state]:
            state = self._link[state]
        return state

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

    def _add_state(self, following: dict[int, int], length: int, last_end: int, link: int) -> int:
        self._next.append(following)
        self._length.append(length)
        self._last_end.append(last_end)
        self._link.append(link)
        return len(self._next) - 1
