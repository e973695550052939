"""The table of a summary."""

import pytest
from bench_doubles import measurement

from selfdraft.bench.report.cells import cells, complete_only

DRAFTED = {
    "num_drafted": 4,
    "num_accepted": 3,
    "drafted_by_depth": [2, 1, 1],
    "accepted_by_depth": [2, 1, 0],
    "prefill_seconds": 0.5,
    "draft_seconds": 0.4,
    "verify_seconds": 0.4,
    "search_seconds": 0.1,
}


def test_prompts_that_one_method_lacks_are_left_out() -> None:
    """Guards against totals over different prompts after Ctrl-C."""
    measured = [
        measurement(prompt_index=0),
        measurement(prompt_index=0, method="swift"),
        measurement(prompt_index=1),
    ]
    assert {m.prompt_index for m in complete_only(measured, ["off", "swift"])} == {0}


def test_a_cell_has_rates_shares_and_depths() -> None:
    """Guards against shares that do not add up, and depths added to the wrong place."""
    measured = [measurement(), measurement(method="swift", total_seconds=1.6, stats=DRAFTED)]
    by_name = {c["method"]: c for c in cells(measured, ["off", "swift"]) if c["task"] is None}
    swift = by_name["swift"]
    assert swift["acceptance_rate"] == 0.75
    assert swift["mean_accepted_length"] == 2.0
    assert swift["accepted_by_depth"] == [2, 1, 0]
    assert sum(swift["time_shares"].values()) == pytest.approx(1)
    assert swift["time_shares"]["search"] == pytest.approx(0.1 / 1.6)
    assert swift["speedups"]["off"]["total"]["value"] == pytest.approx(2.0 / 1.6)
    assert by_name["off"]["acceptance_rate"] is None


def test_there_is_a_cell_for_each_task_and_category() -> None:
    """Guards against a category that vanishes in the total."""
    measured = [
        measurement(task="x", category="one"),
        measurement(task="x", category="two", prompt_index=1),
        measurement(task="y"),
    ]
    found = {(c["task"], c["category"], c["num_prompts"]) for c in cells(measured, ["off"])}
    assert found == {
        (None, None, 3),
        ("x", None, 2),
        ("y", None, 1),
        ("x", "one", 1),
        ("x", "two", 1),
        ("y", "all", 1),
    }


def test_methods_without_inner_times_have_no_shares() -> None:
    """Guards against a method that seems to spend all its time on nothing."""
    (cell,) = [c for c in cells([measurement(stats={})], ["off"]) if c["task"] is None]
    assert cell["time_shares"] is None
