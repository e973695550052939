"""The cost model: seconds of passes from the passes that ran, on a machine with other users."""

import random
from collections.abc import Hashable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdraft.drafting.cost_model import CostModel


def fed(*passes: tuple[int, float], times: int = 5) -> CostModel:
    """A model that saw each (rows, seconds) `times` times, behind no context."""
    costs = CostModel()
    for num_rows, seconds in passes:
        for _ in range(times):
            costs.observe_verify(num_rows, 0, seconds)
    return costs


def test_row_counts_between_two_seen_ones_lie_on_the_line() -> None:
    """Guards against a row count that was never run looking free, or forbidden."""
    costs = fed((1, 0.10), (9, 0.18))
    assert costs.verify_seconds(9, 0) == pytest.approx(0.18)
    assert costs.verify_seconds(5, 0) == pytest.approx(0.14)
    assert costs.verify_seconds(17, 0) == pytest.approx(0.26)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 500), st.floats(0.001, 10)), max_size=60),
    st.integers(0, 1000),
)
def test_more_rows_are_never_cheaper(passes: list[tuple[int, int, float]], context: int) -> None:
    """Guards against noise making the router verify rows to save time."""
    costs = CostModel()
    for num_rows, behind, seconds in passes:
        costs.observe_verify(num_rows, behind, seconds)
    seconds_of = [costs.verify_seconds(n, context) for n in range(1, 60)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(seconds_of))
    assert min(seconds_of) > 0


def test_outliers_do_not_count() -> None:
    """Guards against one pause of the machine switching drafting on or off."""
    costs = fed((1, 0.10), (8, 0.12))
    for _ in range(2):
        costs.observe_verify(1, 0, 5.0)
        costs.observe_draft("plan", 0, 9.0)
        costs.observe_draft("plan", 0, 0.05)
    costs.observe_draft("plan", 0, 0.05)
    assert costs.verify_seconds(1, 0) == pytest.approx(0.10)
    assert costs.draft_seconds("plan", 0) == pytest.approx(0.05)


def test_the_first_pass_of_a_row_count_is_not_believed() -> None:
    """Guards against the pass that builds the kernels making its row count look expensive."""
    costs = fed((1, 0.10), (9, 0.18))
    costs.observe_verify(5, 0, 3.0)
    assert costs.verify_seconds(5, 0) == pytest.approx(0.14)
    costs.observe_verify(5, 0, 0.15)
    assert costs.verify_seconds(5, 0) == pytest.approx(0.15)


def test_old_costs_are_forgotten() -> None:
    """Guards against costs of a machine that was busy an hour ago."""
    costs = fed((1, 0.30))
    for _ in range(40):
        costs.observe_verify(1, 0, 0.10)
    assert costs.verify_seconds(1, 0) == pytest.approx(0.10)


def test_context_costs_every_row() -> None:
    """Guards against long texts being judged by the costs of short ones."""
    costs = CostModel()
    noise = random.Random(0)
    for step in range(400):
        context, num_rows = 3 * step, 1 + step % 8
        seconds = 0.05 + 0.001 * num_rows + 1e-5 * context * num_rows + noise.random() * 1e-3
        costs.observe_verify(num_rows, context, seconds)
    assert costs.verify_seconds(8, 4000) == pytest.approx(0.058 + 0.32, rel=0.15)
    assert costs.verify_seconds(1, 0) == pytest.approx(0.051, rel=0.1)


def test_before_anything_is_measured_costs_are_relative() -> None:
    """Guards against a first round without any costs to decide by."""
    costs = CostModel(relative_bytes=lambda plan: 0.5)
    assert not costs.is_measured
    assert costs.verify_seconds(1, 0) == pytest.approx(1.0)
    assert costs.draft_seconds("plan", 0) == pytest.approx(0.5)


def test_a_plan_that_never_ran_is_predicted_from_its_nearest_neighbour() -> None:
    """Guards against a search that expects of every plan what its bytes alone would take."""
    shares: dict[Hashable, float] = {"skip 10": 0.9, "int4": 0.3, "int4 skip 10": 0.27}
    costs = CostModel(relative_bytes=shares.__getitem__)
    for _ in range(3):
        costs.observe_verify(1, 0, 0.10)
    assert costs.draft_seconds("skip 10", 0) == pytest.approx(0.09)
    for _ in range(3):
        costs.observe_draft("int4", 0, 0.045)  # where its bytes take 0.03
    assert costs.draft_seconds("int4 skip 10", 0) == pytest.approx(0.042)
    assert costs.draft_seconds("skip 10", 0) == pytest.approx(0.09)
    assert costs.num_draft_passes("int4") == 3
