"""Texts of earlier requests: what is kept of them, and how much."""

from collections.abc import Iterator

from selfdraft.drafting.free.earlier_texts import SEPARATOR, EarlierTexts
from selfdraft.drafting.free.suffix_automaton import NO_MATCH, SuffixAutomaton


def match_length(text: SuffixAutomaton, token_ids: list[int]) -> int:
    match = NO_MATCH
    for token_id in token_ids:
        match = text.extend(match, token_id)
    return match.length


def test_no_match_reaches_from_one_text_to_the_next() -> None:
    """Guards against a copy of what two requests wrote only together."""
    earlier = EarlierTexts()
    earlier.add([1, 2, 3])
    earlier.add([4, 5, 6])
    assert match_length(earlier.text, [1, 2, 3]) == 3
    assert match_length(earlier.text, [3, 4]) == 1
    assert earlier.text.token_ids.count(SEPARATOR) == 2


def test_what_is_known_is_not_kept_again() -> None:
    """Guards against a system prompt, or a chat's history, that is kept once for each request."""
    earlier, prompt = EarlierTexts(), list(range(500))
    earlier.add([*prompt, 1000, 1001])
    size = len(earlier.text.token_ids)
    earlier.add([*prompt, 1000, 1001])
    earlier.add(prompt[:300])
    assert len(earlier.text.token_ids) == size
    earlier.add([*prompt, 2000, 2001])
    assert len(earlier.text.token_ids) < size + 50
    assert match_length(earlier.text, [*prompt[-20:], 2000, 2001]) == 22


def test_a_text_that_is_known_in_part_is_kept_whole_after_that() -> None:
    """Guards against taking a late match for a known beginning."""
    earlier = EarlierTexts()
    earlier.add([1, 2, 3, 4, 5])
    earlier.add([1, 2, 9, 3, 4, 5, 6])
    assert match_length(earlier.text, [1, 2, 9, 3, 4, 5, 6]) == 7


def test_at_most_so_many_tokens_are_kept_and_the_oldest_go() -> None:
    """Guards the bound on memory; and against forgetting everything when it is reached."""
    earlier = EarlierTexts(max_tokens=100)
    for number in range(40):
        text = [number * 100 + index for index in range(13)]
        earlier.add(text)
        assert len(earlier.text.token_ids) <= 100
        assert match_length(earlier.text, text) == 13
        if number >= 3:
            assert match_length(earlier.text, [token_id - 300 for token_id in text]) == 13
    assert match_length(earlier.text, list(range(13))) == 0


def test_of_a_text_beyond_the_bound_the_end_is_kept() -> None:
    """Guards against one long prompt that breaks the bound."""
    earlier = EarlierTexts(max_tokens=100)
    earlier.add(list(range(1000)))
    assert len(earlier.text.token_ids) <= 100
    assert match_length(earlier.text, list(range(990, 1000))) == 10


def test_a_request_keeps_the_texts_that_it_began_with() -> None:
    """Guards against a match that is looked up in texts which it is not a match of."""
    earlier = EarlierTexts(max_tokens=100)
    earlier.add(list(range(60)))
    text = earlier.text
    match = text.extend(NO_MATCH, 5)
    earlier.add(list(range(200, 290)))
    assert match_length(earlier.text, [5, 6]) == 0
    assert text.continuation(match) == (6, 1)


class Interrupting(list[int]):
    """Tokens during whose reading another request ends, as in a garbage collection."""

    def __init__(self, earlier: EarlierTexts, token_ids: list[int], other: list[int]) -> None:
        super().__init__(token_ids)
        self._earlier, self._other = earlier, other

    def __iter__(self) -> Iterator[int]:
        self._earlier.add(self._other)
        return super().__iter__()


def test_a_text_that_ends_while_another_is_taken_in_is_kept_after_it() -> None:
    """Guards against waiting for oneself for ever, and against two texts that are mixed."""
    earlier = EarlierTexts()
    earlier.add(Interrupting(earlier, [1, 2, 3], [4, 5, 6]))
    assert earlier.text.token_ids == [SEPARATOR, 1, 2, 3, SEPARATOR, 4, 5, 6]
