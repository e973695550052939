"""The share of time that a search may use."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdraft.search.time_budget import TimeBudget

SHARE = 0.05


@given(
    rounds=st.lists(
        st.tuples(
            st.floats(1e-3, 0.2),  # of decoding
            st.sampled_from(["score", "walk"]),
            st.floats(1e-3, 1.0),  # of the step, if it runs
            st.sampled_from([1.0, 1.0, 3.0]),  # and suddenly takes so many times as long
        ),
        max_size=300,
    ),
    share=st.floats(0.01, 1.0),
)
def test_never_over_the_share_by_more_than_one_surprise(
    rounds: list[tuple[float, str, float, float]], share: float
) -> None:
    """Guards against overdrafts that add up, whatever steps cost; and against a share left unused.

    A surprise is what a step cost beyond what was expected when it was allowed.
    """
    budget, largest = TimeBudget(share), 0.0
    for decoding, kind, seconds, factor in rounds:
        budget.count_decoding(decoding)
        expected = budget.expected_seconds(kind)
        if budget.allows(kind):
            budget.charge(kind, factor * seconds)
            largest = max(largest, factor * seconds - expected)
        else:
            assert budget.spent_seconds + expected > share * budget.decode_seconds
        assert budget.spent_seconds <= share * budget.decode_seconds + largest + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_within_a_tenth_of_the_share_after_enough_decoding(seed: int) -> None:
    """Guards the promise that is made, with steps that now and then take three times as long.

    Enough is what the module says: 10 times the largest surprise possible, over the share.
    """
    random, budget = Random(seed), TimeBudget(SHARE)
    costs = {"score": 0.05, "walk": 0.3}
    enough = 10 * (3 * 1.1 * costs["walk"]) / SHARE
    for number in range(20_000):
        budget.count_decoding(random.uniform(0.02, 0.04))
        kind = "walk" if number % 50 == 0 else "score"
        if budget.allows(kind):
            factor = random.choice([1, 1, 1, 3]) if random.random() < 0.2 else 1
            budget.charge(kind, factor * costs[kind] * random.uniform(0.9, 1.1))
        if budget.decode_seconds >= enough:
            assert budget.spent_seconds <= 1.1 * SHARE * budget.decode_seconds
    assert budget.spent_seconds >= 0.9 * SHARE * budget.decode_seconds


def test_a_machine_that_becomes_slow_is_noticed_at_once() -> None:
    """Guards against a mean that is late: after a dear step the next is expected to be dear."""
    budget = TimeBudget(SHARE)
    budget.count_decoding(100.0)
    for seconds in (0.1, 0.1, 0.3, 0.1):
        budget.charge("score", seconds)
        assert budget.expected_seconds("score") >= seconds
    assert budget.expected_seconds("score") == 0.3
    for _ in range(8):
        budget.charge("score", 0.1)
    assert budget.expected_seconds("score") == 0.1


def test_nothing_runs_before_it_is_earned() -> None:
    """Guards against a first step that is free because nothing is known of its cost."""
    budget = TimeBudget(0.05)
    assert not budget.allows("score")
    for _ in range(30):
        budget.count_decoding(0.03)
    assert not budget.allows("score")  # two passes are 0.06 s, the share 0.045 s
    for _ in range(20):
        budget.count_decoding(0.03)
    assert budget.allows("score")
    assert not budget.allows("score", 2)
    assert not budget.allows("walk")


def test_without_a_share_everything_is_allowed() -> None:
    """The paper's search has no budget."""
    assert TimeBudget(None).allows("walk")
