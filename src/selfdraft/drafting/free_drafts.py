"""Drafts that need no pass of any model: copies from the text, and recycled successors.

What they would propose next is known after every token, whether it is proposed or not; so they are
calibrated on every token that is written, and can wait unused at no cost until they pay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from selfdraft.drafting.calibration import Calibration, Candidate
from selfdraft.drafting.recycling import Successors, SuccessorTable
from selfdraft.drafting.suffix_automaton import NO_MATCH, Match, SuffixAutomaton

# A match shorter than this is hardly evidence against another draft.
_LONG_MATCH = 3
# First guesses; a few dozen tokens replace them. By tokens of context, then by rank.
_RECYCLED_PRIORS = {1: (0.4, 0.12, 0.06, 0.04), 2: (0.6, 0.12, 0.05, 0.03)}


@dataclass(frozen=True, slots=True)
class Place:
    """A place where a token may come next: the two tokens before it, and where the text matches."""

    before: int
    last: int
    match: Match


class FreeDrafts:
    """What the text so far suggests after a place. One request's own."""

    def __init__(
        self,
        calibration: Calibration,
        *,
        copies_text: bool = True,
        table: SuccessorTable | None = None,
    ) -> None:
        self._calibration = calibration
        self._text = SuffixAutomaton()
        self._copies_text = copies_text
        self._table = table

    def read(self, token_ids: Sequence[int], *, learn_from: int) -> None:
        """Take in the text up to here; its tokens from index `learn_from` on are outcomes."""
        for index in range(len(self._text.token_ids), len(token_ids)):
            if index >= learn_from:
                self._calibration.judge(self.candidates(self.end), token_ids[index])
            self._text.append(token_ids[index])

    @property
    def end(self) -> Place:
        """The end of the text."""
        token_ids = self._text.token_ids
        before, last = ([-1, -1, *token_ids[-2:]])[-2:]
        return Place(before, last, self._text.longest_match())

    def after(self, place: Place, token_id: int) -> Place:
        """The place after a drafted token."""
        match = self._text.extend(place.match, token_id) if self._copies_text else NO_MATCH
        return Place(place.last, token_id, match)

    def copied(self, place: Place) -> tuple[int, int] | None:
        """The token that a copy of the text continues with here, and the length of the match."""
        return self._text.continuation(place.match) if self._copies_text else None

    def candidates(self, place: Place) -> list[Candidate]:
        """All that may come next here, the copy of the text first."""
        copied = self.copied(place)
        recycled = self._table.after(place.before, place.last) if self._table else None
        ids = recycled.token_ids if recycled else ()
        if copied is None:
            return [*_recycled(recycled, None, is_long=False)]
        token_id, length = copied
        is_best = ids[0] == token_id if ids else None
        is_sole = self._text.num_continuations(place.match) == 1
        key = ("copy", _bucket(length), is_best, is_sole)
        copy = Candidate(token_id, key, length / (length + 3))
        return [copy, *_recycled(recycled, token_id, is_long=length >= _LONG_MATCH)]


def _recycled(
    successors: Successors | None, copied: int | None, *, is_long: bool
) -> Iterator[Candidate]:
    if successors is None:
        return
    priors = _RECYCLED_PRIORS[successors.num_tokens]
    for rank, (token_id, gap, prior) in enumerate(
        zip(successors.token_ids, successors.gaps, priors, strict=False)
    ):
        if token_id != copied:
            key = ("recycled", successors.num_tokens, rank, gap, is_long)
            yield Candidate(token_id, key, prior / 2 if is_long else prior)


def _bucket(length: int) -> int:
    """Lengths that are told apart: each up to four, then by powers of two, up to 32."""
    return length if length <= 4 else 1 << min(length - 1, 31).bit_length()
