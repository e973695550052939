"""Calibration: probabilities of drafted tokens from what became of earlier ones."""

import random
from threading import Thread

import pytest

from selfdraft.drafting.calibration import Calibration


def test_a_key_never_seen_has_its_prior() -> None:
    """Guards against certainty that nothing supports."""
    assert Calibration().probability(("suffix", 3), 0.4) == 0.4


def test_shares_are_learned_per_key() -> None:
    """Guards against one drafter being believed for what another did."""
    calibration, chance = Calibration(), random.Random(0)
    for _ in range(400):
        calibration.observe([("often", chance.random() < 0.9), ("rarely", chance.random() < 0.1)])
    assert calibration.probability("often", 0.5) == pytest.approx(0.9, abs=0.1)
    assert calibration.probability("rarely", 0.5) == pytest.approx(0.1, abs=0.1)


def test_one_outcome_does_not_outweigh_the_prior() -> None:
    """Guards against a drafter that is never asked again after one miss."""
    calibration = Calibration()
    calibration.observe([("key", False)])
    assert 0.5 < calibration.probability("key", 0.8) < 0.8


def test_the_past_is_forgotten() -> None:
    """Guards against a text that changes and a drafter judged by how it began."""
    calibration = Calibration()
    calibration.observe([("key", True)] * 1000)
    calibration.observe([("key", False)] * 200)
    assert calibration.probability("key", 0.9) < 0.15
    assert calibration.num_seen("key") < 100


def test_it_is_bounded_and_safe_to_share() -> None:
    """Guards against growth with every plan a search tries, and against lost updates."""
    calibration = Calibration()

    def learn(offset: int) -> None:
        for number in range(3000):
            calibration.observe([((offset, number), True), ("shared", True)])

    threads = [Thread(target=learn, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calibration.num_seen((0, 0)) == 0
    assert calibration.num_seen("shared") == pytest.approx(64, abs=1)
