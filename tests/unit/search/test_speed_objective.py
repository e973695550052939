"""What a draft is worth."""

import pytest

from selfdraft.search.speed_objective import predict


def flat(num_rows: int) -> float:
    return 1.0


def test_ceiling_of_a_perfect_free_check() -> None:
    """1 / c for a draft that is always right, up to the longest chain."""
    best = predict(1.0, 0.1, flat)
    assert best.num_steps == 16
    assert best.speedup == pytest.approx(17 / 2.6)


def test_a_useless_draft_is_worth_less_than_nothing() -> None:
    """Guards against a worth that cannot say that plain decoding is faster."""
    assert predict(0.0, 0.5, flat).speedup == pytest.approx(1 / 1.5)
    assert predict(0.5, 1.0, flat).speedup < 1


def test_worse_drafts_make_shorter_chains() -> None:
    """And dearer ones as well."""
    assert predict(0.5, 0.2, flat).num_steps < predict(0.9, 0.2, flat).num_steps
    assert predict(0.9, 0.5, flat).num_steps < predict(0.9, 0.1, flat).num_steps
    dear = predict(0.9, 0.2, lambda num_rows: 1 + 0.3 * (num_rows - 1))
    assert dear.num_steps < predict(0.9, 0.2, flat).num_steps
