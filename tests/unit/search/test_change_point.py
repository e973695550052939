"""The change-point rule on accepted lengths."""

from random import Random

import pytest

from selfdraft.search.change_point import AcceptanceDrop


def rounds_until_alarm(
    drop: AcceptanceDrop, acceptance: float, num_rounds: int, seed: int = 0
) -> int | None:
    """Feed rounds of a chain of 6 whose tokens are right with `acceptance`."""
    random = Random(seed)
    for number in range(1, num_rounds + 1):
        num_right = 0
        while num_right < 6 and random.random() < acceptance:
            num_right += 1
        if drop.observe(num_right, was_refused=num_right < 6):
            return number
    return None


@pytest.mark.parametrize(("before", "within"), [(0.95, 60), (0.85, 30), (0.7, 20)])
def test_a_drop_is_noticed_soon(before: float, within: int) -> None:
    """Refusals twice as frequent are noticed within so many rounds, in half of the cases."""
    delays = []
    for seed in range(41):
        drop = AcceptanceDrop()
        rounds_until_alarm(drop, before, 60, seed)
        delays.append(rounds_until_alarm(drop, 1 - 2 * (1 - before), 400, seed + 100) or 400)
    assert sorted(delays)[20] <= within


@pytest.mark.parametrize("acceptance", [0.95, 0.85, 0.7])
def test_false_alarms_are_rare(acceptance: float) -> None:
    """A draft that stays as it is: an alarm in 600 rounds at most, on average."""
    alarms = sum(
        rounds_until_alarm(AcceptanceDrop(), acceptance, 600, seed) is not None
        for seed in range(30)
    )
    assert alarms <= 20


def test_a_gain_is_no_drop() -> None:
    """Guards against a rule that reports any change."""
    drop = AcceptanceDrop()
    rounds_until_alarm(drop, 0.6, 60)
    assert rounds_until_alarm(drop, 0.95, 500, 1) is None


def test_nothing_is_said_before_the_usual_is_known() -> None:
    """Guards against an alarm in the first rounds, where a few refusals mean nothing."""
    drop = AcceptanceDrop(warm_up=64)
    assert not any(drop.observe(0, was_refused=True) for _ in range(64))


def test_a_draft_that_is_never_right_cannot_drop() -> None:
    """Guards against a logarithm of nothing."""
    drop = AcceptanceDrop(warm_up=8)
    assert not any(drop.observe(0, was_refused=True) for _ in range(200))
