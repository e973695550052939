"""Free drafts: which of two texts is copied, and as what kind of draft it is judged."""

from selfdraft.drafting.calibration import Calibration, Candidate
from selfdraft.drafting.free.earlier_texts import EarlierTexts
from selfdraft.drafting.free.free_drafts import FreeDrafts

PASSAGE = list(range(20, 40))


def candidates(
    text: list[int], *earlier_texts: list[int], copies_text: bool = True
) -> list[Candidate]:
    earlier = EarlierTexts()
    for earlier_text in earlier_texts:
        earlier.add(earlier_text)
    free = FreeDrafts(Calibration(), copies_text=copies_text, earlier=earlier.text)
    free.read(text, learn_from=len(text))
    return free.candidates(free.end)


def kinds(found: list[Candidate]) -> list[tuple[object, int]]:
    return [(candidate.key[0], candidate.token_id) for candidate in found]


def test_an_earlier_text_is_copied_where_the_own_has_no_match() -> None:
    """Guards against earlier texts that are kept and never asked."""
    assert kinds(candidates(PASSAGE[:5], PASSAGE)) == [("earlier copy", PASSAGE[5])]
    assert kinds(candidates(PASSAGE[:5])) == []


def test_the_longer_match_comes_first_and_each_is_its_own_kind() -> None:
    """Guards against a chance match of two tokens that hides a long one of the own text, and
    against believing either as much as the other.
    """
    own = [*PASSAGE[3:5], 7, *PASSAGE[:5]]  # after PASSAGE[3:5] came 7
    assert kinds(candidates(own, PASSAGE)) == [("earlier copy", PASSAGE[5]), ("copy", 7)]
    assert kinds(candidates(own, PASSAGE[3:])) == [("copy", 7)]
    assert kinds(candidates(own, [*PASSAGE[:5], 7])) == [("earlier copy", 7)]


def test_nothing_follows_the_end_of_an_earlier_text() -> None:
    """Guards against a separator, or the next request's first token, that is drafted."""
    assert candidates(PASSAGE[-4:], PASSAGE, [1, 2, 3]) == []


def test_the_match_goes_on_through_drafted_tokens() -> None:
    """Guards against copies of one token."""
    earlier = EarlierTexts()
    earlier.add(PASSAGE)
    free = FreeDrafts(Calibration(), earlier=earlier.text)
    free.read(PASSAGE[:4], learn_from=4)
    place, drafted = free.end, list[int]()
    while copy := free.copied(place):
        assert copy.is_earlier
        assert copy.length == 4 + len(drafted)
        drafted.append(copy.token_id)
        place = free.after(place, copy.token_id)
    assert drafted == PASSAGE[4:]


def test_earlier_copies_are_judged_by_what_is_written() -> None:
    """Guards against copies that are believed however often they are wrong."""
    earlier = EarlierTexts()
    earlier.add(PASSAGE)
    for next_token, is_right in ((PASSAGE[4], True), (99, False)):
        calibration = Calibration()
        free = FreeDrafts(calibration, earlier=earlier.text)
        free.read([*PASSAGE[:4], next_token], learn_from=4)
        key = ("earlier copy", 4, None, True)
        assert calibration.num_seen(key) == 1
        assert (calibration.probability(key, 0.5) > 0.5) == is_right
