"""From which acceptance on a draft pays, and what it can reach at most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdraft.search.speed_objective import break_even, ceiling, predict


def flat(num_rows: int) -> float:
    return 1.0


def test_free_rows_make_the_step_the_price() -> None:
    """Guards the sentence that users read: one token must be worth the step that drafts it."""
    assert break_even(0.38, flat) == pytest.approx(0.38, abs=0.001)


def test_dear_rows_are_part_of_the_price() -> None:
    """Guards against a promise that forgets what the check of a drafted token costs."""
    assert break_even(0.3, lambda n: 1 + 0.1 * (n - 1)) == pytest.approx(0.4, abs=0.001)


@pytest.mark.parametrize("cost", [1.0, 1.5])
def test_a_draft_as_dear_as_the_target_never_pays(cost: float) -> None:
    """Guards against a break-even of 100 %, which reads as if it could be had."""
    assert break_even(cost, flat) is None


@given(st.floats(0.01, 0.9), st.floats(0.0, 0.3))
def test_it_is_the_border(cost: float, per_row: float) -> None:
    """Guards against a search that ends on the wrong side."""

    def verify(num_rows: int) -> float:
        return 1 + per_row * (num_rows - 1)

    border = break_even(cost, verify)
    if border is None:
        assert predict(1.0, cost, verify).speedup <= 1
    else:
        assert predict(min(1.0, border + 0.01), cost, verify).speedup > 1
        assert predict(border - 0.01, cost, verify).speedup <= 1


@given(st.floats(0.0, 0.99), st.floats(0.05, 1.5))
def test_the_ceiling_is_above_every_prediction(acceptance: float, cost: float) -> None:
    """Guards the word "at most": no chain of a fixed length may beat it."""
    assert predict(acceptance, cost, flat).speedup <= ceiling(acceptance, cost) + 1e-9
    assert ceiling(acceptance, cost) >= 1


def test_the_ceiling_of_section_9() -> None:
    """Guards the formula."""
    assert ceiling(0.8, 0.25) == pytest.approx(2.5)
