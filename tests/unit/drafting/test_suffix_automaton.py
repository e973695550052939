"""The suffix automaton, against looking through the whole text for every answer."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from selfdraft.drafting.suffix_automaton import NO_MATCH, SuffixAutomaton

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
