"""The way back after a change of text, on rounds that are made up."""

from random import Random

import pytest

from research.recovery import Recovery, Verdict, acceptance_of, recovery_of
from selfdraft.drafting.chain_outcome import ChainOutcome

GOOD, BAD, NONE = ChainOutcome(9, True), ChainOutcome(1, True), ChainOutcome()


def random_rounds(acceptance: float, num_rounds: int, random: Random) -> list[ChainOutcome]:
    """Rounds of up to 6 drafted tokens, each right with this chance."""
    rounds = []
    for _ in range(num_rounds):
        num_right = 0
        while num_right < 6 and random.random() < acceptance:
            num_right += 1
        rounds.append(ChainOutcome(num_right, was_wrong=num_right < 6))
    return rounds


def test_acceptance_is_of_tokens_not_of_rounds() -> None:
    """Guards against a mean of rates, and a round without a draft that counts as a bad one."""
    assert acceptance_of([GOOD, BAD, NONE]) == pytest.approx(10 / 12)
    assert acceptance_of([NONE, NONE]) is None
    assert acceptance_of([ChainOutcome(3, was_wrong=False)]) == 1.0


def test_the_first_round_that_stays_good() -> None:
    """Guards against one lucky round that is taken for a recovery, and a mean with the dip."""
    dip = recovery_of([BAD] * 40 + [GOOD] * 160)
    assert dip.verdict is Verdict.BACK
    assert 25 <= dip.num_rounds <= 40
    assert dip.level == pytest.approx(0.9)
    lucky = recovery_of([GOOD, *[BAD] * 40, *[GOOD] * 159])
    assert 25 <= lucky.num_rounds <= 41
    burst = recovery_of([*[GOOD] * 32, *[BAD] * 100, *[GOOD] * 268])
    assert 110 <= burst.num_rounds <= 132
    assert recovery_of([GOOD] * 100).num_rounds == 0


def test_noise_moves_the_answer_by_less_than_a_window() -> None:
    """Guards the number where tokens are right by chance, as they are."""
    for seed in range(50):
        random = Random(seed)
        rounds = random_rounds(0.4, 100, random) + random_rounds(0.85, 500, random)
        recovery = recovery_of(rounds)
        assert recovery.verdict is Verdict.BACK
        assert 60 <= recovery.num_rounds <= 160


def test_a_draft_that_never_recovers_is_called_so() -> None:
    """Guards against the second half that is its own proof: there is always a round that equals it.

    A rise that ends after the middle, one that does not end, and a draft that goes away.
    """
    assert recovery_of([BAD] * 120 + [GOOD] * 80) == Recovery(
        Verdict.NEVER, None, pytest.approx(acceptance_of([BAD] * 20 + [GOOD] * 80))
    )
    random = Random(0)
    rising = [r for step in range(40) for r in random_rounds(0.2 + step * 0.015, 10, random)]
    assert recovery_of(rising).verdict is Verdict.NEVER
    assert recovery_of([GOOD] * 50 + [NONE] * 50) == Recovery(Verdict.NO_DRAFT, None, None)


def test_a_low_level_is_said_to_be_low() -> None:
    """Guards against a frozen draft that is "back" at once because it is as bad as it stays."""
    assert recovery_of([BAD] * 100, level_before=0.9) == Recovery(Verdict.LOWER, 0, 0.5)
    assert recovery_of([BAD] * 100, level_before=0.52).verdict is Verdict.BACK
    assert recovery_of([BAD] * 100).verdict is Verdict.BACK
    assert recovery_of([GOOD] * 100 + [BAD] * 100).verdict is Verdict.LOWER


def test_rounds_without_a_draft_are_no_recovery() -> None:
    """Guards against a window that is good because one of its rounds had a draft."""
    assert recovery_of([NONE] * 60 + [GOOD] * 140).num_rounds == 60
    sparse = [GOOD, NONE, NONE] * 60
    assert recovery_of(sparse).num_rounds == 0


def test_nothing_is_said_of_a_few_rounds() -> None:
    """Guards against a window that is longer than what is left."""
    assert recovery_of([GOOD] * 63).verdict is Verdict.TOO_SHORT
    assert recovery_of([]) == Recovery(Verdict.TOO_SHORT, None, None)
