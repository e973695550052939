"""The search between rounds: its text, its share of time, its restarts, and one request at a time.

The rounds here are those of plain decoding; what a draft would have had right is made up.
"""

import functools
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from decoding_runs import Recorder, new_state
from tiny_models import make_prompt, tiny_model

from selfdraft import Engine, SkipSet
from selfdraft.decoding.loop import speculate
from selfdraft.decoding.state import DecodingState
from selfdraft.drafting.chain_outcome import ChainOutcome
from selfdraft.drafting.cost_model import CostModel
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.search import online_search
from selfdraft.search.online_search import OnlineSearch
from selfdraft.search.search_config import SearchConfig

RIGHT, WRONG = ChainOutcome(6, was_wrong=False), ChainOutcome(0, was_wrong=True)
EAGER = SearchConfig(time_share=None, context_window=8, patience=5)


class Events:
    """A trace that is kept."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def write(self, event: str, **fields: object) -> None:
        self.all.append((event, fields))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.all if event == name]


class Clock:
    """Between two looks at it so many seconds pass."""

    def __init__(self, step_seconds: float) -> None:
        self._seconds, self._step = 0.0, step_seconds

    def __call__(self, device: object) -> float:
        self._seconds += self._step
        return self._seconds


@functools.cache
def engine() -> Engine:
    return Engine(tiny_model(num_hidden_layers=8, damping=0.2), draft="off", remember=False)


def rounds(num_tokens: int, seed: int = 0) -> Iterator[DecodingState]:
    """A request, after each of its rounds."""
    state = new_state(engine(), make_prompt(9, seed), Recorder(), max_new_tokens=num_tokens)
    for _ in speculate(engine().target, engine().drafter("off"), state):
        yield state


def tell(
    search: OnlineSearch, state: DecodingState, drafted: ChainOutcome = RIGHT, seconds: float = 0.01
) -> None:
    search.after_round(state, num_tokens=1, seconds=seconds, drafted=drafted)


def new_search(config: SearchConfig = EAGER, **options: Any) -> tuple[OnlineSearch, Events]:
    events = Events()
    search = OnlineSearch(engine().target, config, CostModel(), trace=events, **options)
    return search, events


def test_starting_set_is_scored_before_any_other() -> None:
    """The reference never scored it, so that the first random set always won."""
    known = SkipSet((2,), (3,))
    search, events = new_search(SearchConfig.swift(), remembered=[known])
    for state in rounds(40):
        tell(search, state)
    first, second = events.of("proposal")[:2]
    assert (first["attention"], first["mlp"]) == (known.attention, known.mlp)
    assert first["is_best"]
    assert (second["attention"], second["mlp"]) != (known.attention, known.mlp)


def test_windows_follow_the_text() -> None:
    """The reference scored the first tokens of a request, however long it grew."""
    search, events = new_search(SearchConfig(time_share=None, context_window=8, patience=500))
    for state in rounds(100):
        tell(search, state)
    positions = [fields["position"] for fields in events.of("window")]
    assert positions[0] == 9
    assert len(positions) >= 4
    assert all(b - a >= 8 for a, b in pairwise(positions))
    assert positions[-1] >= 70


def test_each_window_begins_with_the_best_set() -> None:
    """The reference compared scores of different texts; here the best is scored on each anew."""
    search, events = new_search(SearchConfig(time_share=None, context_window=8, patience=500))
    best = None
    for state in rounds(100):
        tell(search, state)
    is_new = False
    for name, fields in events.all:
        is_new = is_new or name == "window"
        if name == "proposal":
            units = (fields["attention"], fields["mlp"])
            if is_new and best is not None:
                assert units == best
                assert fields["source"] == "best so far"
            best = units if fields["is_best"] else best
            is_new = False
    assert best is not None


def test_search_starts_again_when_acceptance_falls_and_not_before() -> None:
    """The reference never searched again, whatever the text became."""
    config = SearchConfig(time_share=None, context_window=8, patience=5, skip_ratio=0.5)
    search, events = new_search(config)
    for state in rounds(200):
        tell(search, state, RIGHT)
    assert search.is_resting
    assert search.num_starts == 1
    num_before = search.num_proposals
    for number, state in enumerate(rounds(200, seed=1)):
        tell(search, state, WRONG if number < 20 else RIGHT)
    assert search.num_starts == 2
    assert len(events.of("restart")) == 1
    assert search.num_proposals > num_before  # and those before are still counted


def test_hard_text_is_no_reason_to_search_where_nothing_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against a walk and a search for every text on which fewer bits agree less."""
    monkeypatch.setattr(online_search, "_RETRY_TOKENS", 250)
    search, events = new_search(weight_bits=8)
    monkeypatch.setattr(search, "_worth", lambda units, agreement: 1.0 - 0.1 * len(units))
    for state in rounds(40):
        tell(search, state)
    assert search.is_resting
    assert search.plan == DraftPlan(weight_bits=8)
    for state in rounds(150, seed=1):
        tell(search, state, WRONG)
    assert search.num_starts == 1
    assert not events.of("restart")
    for state in rounds(150, seed=2):
        tell(search, state, WRONG)
    assert search.num_starts == 2


def test_a_set_that_is_worth_little_is_no_reason_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a search that starts for every hard text because of two lucky sublayers; and
    the next must not begin with that.
    """
    monkeypatch.setattr(online_search, "_RETRY_TOKENS", 250)
    values = {0: 1.0, 2: 1.01}
    monkeypatch.setattr(OnlineSearch, "_worth", lambda _, units, __: values.get(len(units), 0.5))
    rested: list[object] = []
    search, events = new_search(weight_bits=8, on_rest=lambda *kept: rested.append(kept))
    for state in rounds(60):
        tell(search, state)
    assert search.is_resting
    assert search.plan == DraftPlan(weight_bits=8)  # what leads by luck may soon be worse
    assert not rested
    for state in rounds(150, seed=1):
        tell(search, state, WRONG)
    assert search.num_starts == 1
    for state in rounds(150, seed=2):
        tell(search, state, WRONG)
    assert search.num_starts == 2
    for state in rounds(300, seed=3):
        tell(search, state, WRONG)
    assert search.num_starts == 2  # the second time it waits for 500 tokens
    for state in rounds(250, seed=4):
        tell(search, state, WRONG)
    assert search.num_starts == 3
    restart = next(n for n, (name, _) in enumerate(events.all) if name == "restart")
    first = next(fields for name, fields in events.all[restart:] if name == "proposal")
    assert (first["attention"], first["mlp"]) == ((), ())


def test_the_papers_search_does_not_start_again() -> None:
    """The preset is the paper's, to be compared with."""
    search, _ = new_search(SearchConfig.swift())
    for state in rounds(80):
        tell(search, state, WRONG)
    assert search.num_starts == 1


@pytest.mark.slow
@pytest.mark.parametrize("step_seconds", [0.004, 0.03, 0.2])
def test_share_of_time_is_kept(step_seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a step costs, the search takes its share and at most a tenth more, walks included.

    Rounds take 0.05 s here. Time is a number, so the test holds on a busy machine.
    """
    monkeypatch.setattr(online_search, "now", Clock(step_seconds))
    config = SearchConfig(time_share=0.05, context_window=8, patience=500)
    search, events = new_search(config)
    for seed in range(2):
        for state in rounds(160, seed):
            tell(search, state, seconds=0.05)
    assert events.of("proposal")
    assert 0 < search.share_spent <= 0.055


def test_another_request_is_not_searched_on_meanwhile() -> None:
    """One request's round scored drafts on the other's cache, in which its thread was writing."""
    search, events = new_search()
    first, second = rounds(60), rounds(60, seed=1)
    for _ in range(12):
        tell(search, next(first))
    num_events = len(events.all)
    assert num_events > 0
    for _ in range(12):
        tell(search, next(second))
    assert len(events.all) == num_events
    tell(search, next(first))
    assert len(events.all) > num_events


def test_a_request_that_was_given_up_does_not_stop_the_search() -> None:
    """A reader may keep a generation and never ask it for more."""
    search, events = new_search()
    abandoned = rounds(60)
    state = next(abandoned)
    for _ in range(3):
        tell(search, state)
    for other in rounds(100, seed=1):
        tell(search, other)
    assert events.of("proposal")
    assert not state.is_finished


def test_rest_is_reported_with_the_plan() -> None:
    """Guards what is remembered: the set that won, and how many sets it beat."""
    kept = []
    config = SearchConfig(time_share=None, context_window=8, patience=5, skip_ratio=0.5)
    search, events = new_search(config, on_rest=lambda *found: kept.append(found))
    for state in rounds(200):
        tell(search, state)
    assert len(kept) == len(events.of("rest")) == 1
    plan, trial, num_proposals = kept[0]
    assert plan == search.plan
    best = [fields for fields in events.of("proposal") if fields["is_best"]][-1]
    assert (trial.value, trial.agreement.matchness) == (best["value"], best["matchness"])
    assert num_proposals == search.num_proposals > 0
