"""Drafts that need no pass of any model: copies from texts, and recycled successors.

What they would propose next is known after every token, whether it is proposed or not; so they are
calibrated on every token that is written, and can wait unused at no cost until they pay.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from selfdraft.decoding.token_tree import Source
from selfdraft.drafting.calibration import Calibration, Candidate
from selfdraft.drafting.free.earlier_texts import SEPARATOR
from selfdraft.drafting.free.recycling import Successors, SuccessorTable
from selfdraft.drafting.free.suffix_automaton import NO_MATCH, Match, SuffixAutomaton

# A match shorter than this is hardly evidence against another draft.
_LONG_MATCH = 3
# First guesses; a few dozen tokens replace them. By tokens of context, then by rank.
_RECYCLED_PRIORS = {1: (0.4, 0.12, 0.06, 0.04), 2: (0.6, 0.12, 0.05, 0.03)}


@dataclass(frozen=True, slots=True)
class Place:
    """A place where a token may come next: the two tokens before it, and where texts match."""

    before: int
    last: int
    match: Match
    """With the request's own text."""
    earlier: Match
    """With the texts of earlier requests."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What a text continues with where it matches `length` tokens."""

    token_id: int
    length: int
    is_earlier: bool
    """Whether it is the text of an earlier request."""
    is_sole: bool
    """Whether nothing else has followed the match there."""

    @property
    def source(self) -> Source:
        """Whose text it is."""
        return "earlier" if self.is_earlier else "text"


class FreeDrafts:
    """What the text so far suggests after a place. One request's own.

    `earlier` are texts of other requests. They are asked where they match more than the own text.
    """

    def __init__(
        self,
        calibration: Calibration,
        *,
        copies_text: bool = True,
        table: SuccessorTable | None = None,
        earlier: SuffixAutomaton | None = None,
    ) -> None:
        self._calibration = calibration
        self._text = SuffixAutomaton()
        self._copies_text = copies_text
        self._table = table
        self._earlier = earlier
        self._earlier_match = NO_MATCH

    def read(self, token_ids: Sequence[int], *, learn_from: int) -> None:
        """Take in the text up to here; its tokens from index `learn_from` on are outcomes."""
        for index in range(len(self._text.token_ids), len(token_ids)):
            if index >= learn_from:
                self._calibration.judge(self.candidates(self.end), token_ids[index])
            self._text.append(token_ids[index])
            self._earlier_match = self._extend_earlier(self._earlier_match, token_ids[index])

    @property
    def end(self) -> Place:
        """The end of the text."""
        token_ids = self._text.token_ids
        before, last = ([-1, -1, *token_ids[-2:]])[-2:]
        return Place(before, last, self._text.longest_match(), self._earlier_match)

    def after(self, place: Place, token_id: int) -> Place:
        """The place after a drafted token."""
        match = self._text.extend(place.match, token_id) if self._copies_text else NO_MATCH
        return Place(place.last, token_id, match, self._extend_earlier(place.earlier, token_id))

    def copied(self, place: Place) -> Copy | None:
        """What the longest match continues with here."""
        copies = self._copies(place)
        return copies[0] if copies else None

    def candidates(self, place: Place) -> list[Candidate]:
        """All that may come next here, the copies of texts first."""
        copies = self._copies(place)
        recycled = self._table.after(place.before, place.last) if self._table else None
        best = recycled.token_ids[0] if recycled else None
        is_long = any(copy.length >= _LONG_MATCH for copy in copies)
        copied = {copy.token_id for copy in copies}
        return [
            *(_candidate(copy, best) for copy in copies),
            *_recycled(recycled, copied, is_long=is_long),
        ]

    def _copies(self, place: Place) -> list[Copy]:
        """At most one of either text, with different tokens, that of the longer match first."""
        own = _copy(self._text, place.match) if self._copies_text else None
        earlier = _copy(self._earlier, place.earlier, is_earlier=True) if self._earlier else None
        if earlier is None or (own and own.length >= earlier.length):
            return [own] if own else []
        return [earlier, own] if own and own.token_id != earlier.token_id else [earlier]

    def _extend_earlier(self, match: Match, token_id: int) -> Match:
        return NO_MATCH if self._earlier is None else self._earlier.extend(match, token_id)


def _copy(text: SuffixAutomaton, match: Match, *, is_earlier: bool = False) -> Copy | None:
    found = text.continuation(match)
    if found is None or found[0] == SEPARATOR:
        return None
    return Copy(*found, is_earlier, text.num_continuations(match) == 1)


def _candidate(copy: Copy, best_recycled: int | None) -> Candidate:
    is_best = None if best_recycled is None else best_recycled == copy.token_id
    kind = "earlier copy" if copy.is_earlier else "copy"
    key = (kind, _bucket(copy.length), is_best, copy.is_sole)
    return Candidate(copy.token_id, key, copy.length / (copy.length + 3), source=copy.source)


def _recycled(
    successors: Successors | None, copied: Container[int], *, is_long: bool
) -> Iterator[Candidate]:
    if successors is None:
        return
    priors = _RECYCLED_PRIORS[successors.num_tokens]
    for rank, (token_id, gap, prior) in enumerate(
        zip(successors.token_ids, successors.gaps, priors, strict=False)
    ):
        if token_id not in copied:
            key = ("recycled", successors.num_tokens, rank, gap, is_long)
            yield Candidate(token_id, key, prior / 2 if is_long else prior, source="recycled")


def _bucket(length: int) -> int:
    """Lengths that are told apart: each up to four, then by powers of two, up to 32."""
    return length if length <= 4 else 1 << min(length - 1, 31).bit_length()
