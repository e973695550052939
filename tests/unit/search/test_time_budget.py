"""The share of time that a search may use."""

from random import Random

from selfdraft.search.time_budget import TimeBudget


def test_share_is_kept_at_every_moment() -> None:
    """Steps of unequal cost, rounds of unequal length: never over the share by a tenth.

    Costs are unknown before the first step of a kind, so the first may overdraw what little there
    is; from then on the share holds.
    """
    random, budget = Random(0), TimeBudget(0.05)
    num_steps = 0
    for number in range(4000):
        budget.count_decoding(random.uniform(0.02, 0.04))
        kind, seconds = ("walk", 0.3) if number % 50 == 0 else ("score", 0.05)
        if budget.allows(kind):
            budget.charge(kind, seconds * random.uniform(0.9, 1.1))
            num_steps += 1
        if number > 1000:
            assert budget.spent_seconds <= 0.055 * budget.decode_seconds
    assert num_steps > 50
    assert budget.spent_seconds >= 0.04 * budget.decode_seconds  # and it is used


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
