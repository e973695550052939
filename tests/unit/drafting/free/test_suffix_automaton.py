"""The suffix automaton, against looking through the whole text for every answer."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Semaphore, Thread
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from selfdraft.drafting.free import suffix_automaton
from selfdraft.drafting.free.suffix_automaton import NO_MATCH, Match, SuffixAutomaton

texts = st.lists(st.integers(0, 2), max_size=40) | st.lists(st.integers(0, 9), max_size=40)


def ends_of(part: Sequence[int], text: Sequence[int]) -> list[int]:
    """Where `part` ends in `text`, in rising order."""
    size = len(part)
    return [i for i in range(size - 1, len(text)) if list(text[i + 1 - size : i + 1]) == list(part)]


def longest_suffix(text: Sequence[int], inside: Sequence[int]) -> list[int]:
    """The longest suffix of `text` that occurs in `inside`."""
    for start in range(len(text)):
        if ends_of(text[start:], inside):
            return list(text[start:])
    return []


@given(texts)
def test_longest_match_is_the_longest_suffix_seen_before(text: list[int]) -> None:
    """Guards against a match that is too short, or that is the end of the text itself."""
    automaton = SuffixAutomaton()
    for length, token_id in enumerate(text, start=1):
        automaton.append(token_id)
        expected = longest_suffix(text[:length][1:] if length else [], text[: length - 1])
        assert automaton.longest_match().length == len(expected)


@given(texts)
def test_continuation_is_that_of_the_most_recent_occurrence(text: list[int]) -> None:
    """Guards against drafting from the oldest occurrence, and from the end, where nothing follows.

    Texts are shorter than the number of links that are followed, so none is out of date.
    """
    text = text[:30]
    automaton = SuffixAutomaton(text)
    match = automaton.longest_match()
    suffix = text[len(text) - match.length :]
    ends = [end for end in ends_of(suffix, text) if end + 1 < len(text)]
    expected = (text[ends[-1] + 1], match.length) if match.length else None
    assert automaton.continuation(match) == expected


@given(texts, st.lists(st.integers(0, 3), max_size=6))
def test_a_match_is_extended_without_adding_to_the_text(
    text: list[int], drafted: list[int]
) -> None:
    """Guards against what follows a drafted token being looked for after the wrong string."""
    automaton = SuffixAutomaton(text)
    match = automaton.longest_match()
    seen = text[len(text) - match.length :]
    for token_id in drafted:
        match = automaton.extend(match, token_id)
        seen = longest_suffix([*seen, token_id], text)
        assert match.length == len(seen)
        found = automaton.continuation(match)
        if found is not None:
            token, length = found
            part = seen[len(seen) - length :]
            assert [*part, token] == longest_suffix([*part, token], text)
            assert length == len(seen) or ends_of(seen, text) == [len(text) - 1]
    assert automaton.token_ids == text


@given(texts)
def test_continuations_are_counted_once_each(text: list[int]) -> None:
    """Guards against taking a string with many continuations for a safe one."""
    automaton = SuffixAutomaton(text)
    match = automaton.longest_match()
    suffix = text[len(text) - match.length :]
    following = {text[end + 1] for end in ends_of(suffix, text) if end + 1 < len(text)}
    if match.length:
        assert automaton.num_continuations(match) == len(following)


def test_a_repeated_token_stays_cheap_and_continues_itself() -> None:
    """Guards against time that grows with the square of the length of a loop."""
    automaton = SuffixAutomaton([7] * 5000)
    match = automaton.longest_match()
    assert match.length == 4999
    for _ in range(10):
        found = automaton.continuation(match)
        assert found is not None
        assert found[0] == 7
        match = automaton.extend(match, 7)


def test_nothing_is_known_of_an_empty_text() -> None:
    """Guards against a first token that needs a second one."""
    assert SuffixAutomaton().longest_match() == NO_MATCH
    assert SuffixAutomaton([3]).continuation(SuffixAutomaton([3]).longest_match()) is None


@contextmanager
def between_lines(act: Callable[[], object]) -> Iterator[None]:
    """Runs `act` before every line of the automaton's code, as another thread could."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != suffix_automaton.__file__:
            return None
        if event == "line":
            sys.settrace(None)
            act()
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def follow(automaton: SuffixAutomaton, token_ids: Sequence[int]) -> Match:
    match = NO_MATCH
    for token_id in token_ids:
        match = automaton.extend(match, token_id)
    return match


@given(texts, st.lists(st.integers(0, 2), max_size=8))
def test_matches_stay_right_while_the_text_grows(text: list[int], probe: list[int]) -> None:
    """Guards against a match whose state was split since, which would say what follows others."""
    grown, fresh = SuffixAutomaton(), SuffixAutomaton(text)
    match, num_read = NO_MATCH, 0
    for token_id in [*text, *text]:
        grown.append(token_id)
        if num_read < len(probe):
            match = grown.extend(match, probe[num_read])
            num_read += 1
            part = probe[num_read - match.length : num_read]
            assert part == longest_suffix(part, grown.token_ids)
        part = probe[num_read - match.length : num_read]
        ends = [e for e in ends_of(part, grown.token_ids) if e + 1 < len(grown.token_ids)]
        following = {grown.token_ids[end + 1] for end in ends}
        if part:
            assert grown.num_continuations(match) == len(following)
            found = grown.continuation(match)
            assert found is None or found[1] < match.length or found[0] in following
    assert follow(fresh, text).length == len(text)


@given(st.lists(st.integers(0, 2), max_size=14), st.lists(st.integers(0, 2), max_size=6))
def test_a_reader_between_two_lines_of_append_finds_what_is_true(
    text: list[int], probe: list[int]
) -> None:
    """Guards against another thread that sees a state without its link, or a token too early."""
    automaton, so_far = SuffixAutomaton(), list[int]()

    def read() -> None:
        before = longest_suffix(probe, so_far[:-1])
        after = longest_suffix(probe, so_far)
        match = follow(automaton, probe)
        assert len(before) <= match.length <= len(after)
        found = automaton.continuation(match)
        if found is not None:
            token_id, length = found
            assert ends_of([*probe[len(probe) - length :], token_id], so_far)

    for token_id in text:
        so_far.append(token_id)
        with between_lines(read):
            automaton.append(token_id)


class Writer(Thread):
    """Appends tokens in a thread of its own, one line of code for each `step`."""

    def __init__(self, automaton: SuffixAutomaton, token_ids: Sequence[int]) -> None:
        super().__init__()
        self._automaton, self._token_ids = automaton, token_ids
        self._go, self._done = Semaphore(0), Semaphore(0)
        self._is_over = False
        self.start()

    def run(self) -> None:
        with between_lines(self._wait):
            for token_id in self._token_ids:
                self._automaton.append(token_id)
        self._is_over = True
        self._done.release()

    def _wait(self) -> None:
        self._done.release()
        self._go.acquire()

    def step(self) -> None:
        """Run one line, if there are any left."""
        self._done.acquire()
        if self._is_over:
            self._done.release()
        self._go.release()

    def finish(self) -> None:
        while self.is_alive() and not self._is_over:
            self.step()
        self.join()


@given(
    st.lists(st.integers(0, 1), max_size=12),
    st.lists(st.integers(0, 1), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_a_writer_between_two_lines_of_a_reader_breaks_nothing(
    text: list[int], probe: list[int], num_lines: int
) -> None:
    """Guards against a reader that asks twice, and is told two things."""
    automaton = SuffixAutomaton(text)
    writer = Writer(automaton, [*probe, *text[:4]])

    def write() -> None:
        for _ in range(num_lines):
            writer.step()

    try:
        with between_lines(write):
            match = follow(automaton, probe)
            found = automaton.continuation(match)
    finally:
        writer.finish()
    if match.length:
        assert ends_of(probe[len(probe) - match.length :], automaton.token_ids)
    if found is not None:
        assert ends_of([*probe[len(probe) - found[1] :], found[0]], automaton.token_ids)
