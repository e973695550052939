"""One search: what is scored, what is kept, when it rests."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import tiny_engine

from selfdraft.errors import ConfigError
from selfdraft.search.matchness import Agreement
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.skip_search import SkipSearch
from selfdraft.search.strategies.hidden_state_sets import HiddenStateSets
from selfdraft.search.strategies.proposals import Given, RandomSets
from selfdraft.search.strategies.skip_space import SkipSpace, Units
from selfdraft.search.trace import TraceFile

SPACE = SkipSpace(tiny_engine().target.layers)
ALL = [frozenset(units) for units in itertools.combinations(range(6), 2)]
TEXT, OTHER_TEXT = "text", "other text"


def new_search(
    matches: Callable[[Units, object], int],
    proposer: object = None,
    start: Units = ALL[0],
    least: float = 0.0,
    **options: object,
) -> SkipSearch:
    config = SearchConfig(**{"skip_ratio": 0.34, "stop_matchness": 0.95, **options})
    search = SkipSearch(
        SPACE,
        proposer or Given(ALL),
        start,
        score=lambda units, window: Agreement(matches(units, window), 32),
        worth=lambda units, agreement: agreement.matchness,
        config=config,
        least=least,
    )
    search.look_at((TEXT,))
    return search


def run(search: SkipSearch) -> list[Units]:
    scored = []
    while search.next_step() is not None:
        trial = search.step()
        assert trial is not None
        scored.append(trial.units)
    return scored


def test_starting_set_is_scored_first() -> None:
    """The reference never scored it, so that the first random set always won."""
    search = new_search(lambda units, _: 20 if units == ALL[0] else 10)
    scored = run(search)
    assert scored[0] == ALL[0]
    assert search.best == ALL[0]
    assert search.num_proposals == len(ALL) - 1  # the start is no proposal


def test_best_set_wins_whenever_it_comes() -> None:
    """Guards against a search that keeps the latest, or the first."""
    for best in (ALL[1], ALL[7], ALL[-1]):
        search = new_search(lambda units, _, best=best: 25 if units == best else 10)
        run(search)
        assert search.best == best


def test_scores_of_different_texts_are_not_compared() -> None:
    """The reference held a score on one request's text against one on another's.

    The second text is easy: every set scores higher there than the best did on the first. The
    best set must be scored on it too, and stay.
    """
    search = new_search(lambda units, text: (20 if text is TEXT else 30) + (units == ALL[3]))
    while search.num_proposals < 5:
        search.step()
    assert search.best == ALL[3]
    search.look_at((OTHER_TEXT,))
    rescored = search.step()
    assert rescored is not None
    assert rescored.units == ALL[3]
    run(search)
    assert search.best == ALL[3]


def test_best_of_the_old_text_loses_if_it_is_worse_on_the_new() -> None:
    """Guards against a best score that is never taken back."""
    search = new_search(lambda units, text: 25 if units == ALL[3 if text is TEXT else 9] else 10)
    while search.num_proposals < 5:
        search.step()
    search.look_at((OTHER_TEXT,))
    run(search)
    assert search.best == ALL[9]


def test_luck_on_one_text_does_not_lead() -> None:
    """Guards against the best of many sets on little text, which is one that fits it by luck."""
    lucky, good = ALL[3], ALL[9]
    scores = {(lucky, TEXT): 30, (lucky, OTHER_TEXT): 10, (good, TEXT): 21, (good, OTHER_TEXT): 26}
    search = new_search(lambda units, text: scores.get((units, text), 20))
    search.look_at((TEXT, OTHER_TEXT))
    run(search)
    assert search.best == good
    assert search.best_trial is not None
    assert search.best_trial.agreement == Agreement(47, 64)


@pytest.mark.parametrize(
    ("source", "rival", "num_lost", "leads"),
    [
        ("swap", ALL[1], 0, True),
        ("swap", ALL[1], 1, True),
        ("swap", ALL[1], 4, False),
        ("hidden states", ALL[1], 4, True),
        ("hidden states", frozenset(range(3)), 4, True),
        ("hidden states", frozenset([0]), 4, False),
        ("hidden states", frozenset([0]), 1, True),
    ],
    ids=str,
)
def test_a_lead_must_be_more_than_it_is_uncertain(
    source: str, rival: Units, num_lost: int, leads: bool
) -> None:
    """Guards against a lead of three tokens that is what is left of many won and lost by chance,
    and against a walk that may not show how large a set can be, or gives back what was found.
    """
    old = [True] * 10 + [False] * 22
    won, lost = range(10, 13 + num_lost), range(num_lost)
    new = [n in won or (hit and n not in lost) for n, hit in enumerate(old)]
    assert sum(new) == sum(old) + 3
    proposer = Given([rival])
    proposer.name = source
    search = SkipSearch(
        SPACE,
        proposer,
        ALL[0],
        score=lambda units, _: Agreement.of(tuple(new if units == rival else old)),
        worth=lambda _, agreement: agreement.matchness,
        config=SearchConfig(skip_ratio=1 / 3),
        is_careful=True,
    )
    search.look_at((TEXT,))
    run(search)
    assert (search.best == rival) is leads


def test_a_set_is_scored_until_it_is_behind() -> None:
    """Guards against time spent on sets that have lost, and a set that loses by a tie."""
    passes: list[tuple[Units, object]] = []
    level, behind = ALL[1], ALL[2]

    def matches(units: Units, text: object) -> int:
        passes.append((units, text))
        return {ALL[0]: 20, level: 20 if text is TEXT else 21}.get(units, 19)

    search = new_search(matches, Given([level, behind]))
    search.look_at((TEXT, OTHER_TEXT))
    run(search)
    assert passes == [
        *((units, text) for units in (ALL[0], level) for text in (TEXT, OTHER_TEXT)),
        (behind, TEXT),
    ]
    assert search.best == level


def test_a_set_of_the_walk_is_scored_on_everything() -> None:
    """Guards against the right size that is lost to bad luck on the first of many windows."""
    right = ALL[5]
    scores = {(right, TEXT): 15, (right, OTHER_TEXT): 30}
    walked = Given([right])
    walked.name = HiddenStateSets.name
    for proposer, best in ((Given([right]), ALL[0]), (walked, right)):
        search = new_search(lambda units, text: scores.get((units, text), 20), proposer)
        search.look_at((TEXT, OTHER_TEXT))
        run(search)
        assert search.best == best


@pytest.mark.parametrize(
    ("options", "num_proposals", "reason"),
    [
        ({"max_proposals": 7}, 7, "7 proposals"),
        ({"patience": 7}, 6 + 7, "no better set in 7"),
        ({"stop_matchness": 0.75}, 6, "is enough"),
        ({}, len(ALL) - 1, "nothing more"),
    ],
)
def test_it_rests_when_it_should(options: dict, num_proposals: int, reason: str) -> None:
    """Patience counts from the last gain, not from the start."""
    search = new_search(lambda units, _: 25 if units == ALL[6] else 10, **options)
    run(search)
    assert search.num_proposals == num_proposals
    assert reason in search.reason
    assert search.next_step() is None


ANY_SIZE = [frozenset(s) for size in range(7) for s in itertools.combinations(range(6), size)]


@pytest.mark.parametrize(
    ("best", "time_share", "patience", "num_proposals"),
    [
        (frozenset(), 0.05, 60, 20),
        (frozenset(), 0.05, 5, 5),
        (frozenset(), None, 60, 60),
        (frozenset([2]), 0.05, 60, 20),  # worth little more, at the third proposal
        (frozenset([2, 4]), 0.05, 40, 17 + 40),
    ],
    ids=str,
)
def test_less_is_tried_where_nothing_is_worth_skipping_and_time_is_short(
    best: Units, time_share: float | None, patience: int, num_proposals: int
) -> None:
    """Guards against a share of time that is spent for good on models with nothing to skip, where
    now and then a set of one sublayer leads by luck.
    """
    search = new_search(
        lambda units, _: 32 - len(units ^ best) / 2,
        Given(ANY_SIZE),
        start=frozenset(),
        skip_ratio=None,
        patience=patience,
        time_share=time_share,
    )
    run(search)
    assert search.best == best
    assert search.num_proposals == num_proposals
    assert search.is_worthwhile is (len(best) == 2)


def test_a_set_must_be_worth_something_by_itself() -> None:
    """Guards against a search for drafts that are better than others, and worse than none."""
    search = new_search(
        lambda units, _: 24 + 2 * len(units),
        Given([s for s in ANY_SIZE if len(s) < 3]),
        start=frozenset(),
        skip_ratio=None,
        time_share=0.05,
        least=1.0,
    )
    run(search)
    assert search.num_proposals == 20
    assert not search.is_worthwhile
    search.look_at(())
    assert not search.is_worthwhile


def test_nothing_happens_without_a_text() -> None:
    """A finished request's cache must be let go, and not be read again."""
    search = new_search(lambda *_: 10)
    search.look_at(())
    assert search.next_step() is None
    assert search.reason is None


def test_search_of_random_sets_finds_the_best_of_few() -> None:
    """The whole thing at once."""
    search = new_search(lambda units, _: 10 + 10 * len(units & {2, 5}), RandomSets(2, 0))
    run(search)
    assert search.best == {2, 5}


def test_trace_is_enough_to_redraw_the_search(tmp_path: Path) -> None:
    """One line for every score, and the reason at the end."""
    file = tmp_path / "trace.jsonl"
    with TraceFile(file) as trace:
        search = new_search(lambda units, _: 25 if units == ALL[6] else 10)
        search._trace = trace
        scored = run(search)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    proposals = [line for line in lines if line["event"] == "proposal"]
    sets = [SPACE.skip_set(units) for units in scored]
    assert [(tuple(p["attention"]), tuple(p["mlp"])) for p in proposals] == [
        (s.attention, s.mlp) for s in sets
    ]
    assert [p["is_best"] for p in proposals].count(True) == 2
    assert lines[-1]["event"] == "rest"
    with pytest.raises(ConfigError, match="name another file"):
        TraceFile(tmp_path / "no such folder" / "trace")
