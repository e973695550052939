"""Counts and rates."""

from selfdraft.decoding.stats import Stats


def test_rates() -> None:
    """Guards against a rate over the wrong total."""
    stats = Stats(
        num_new_tokens=30, num_rounds=10, num_drafted=40, num_accepted=20, decode_seconds=2.0
    )
    assert stats.acceptance_rate == 0.5
    assert stats.mean_accepted_length == 3.0
    assert stats.tokens_per_second == 15.0


def test_rounds_are_counted_by_depth() -> None:
    """Guards against a curve of acceptance over rounds that never drafted so deep."""
    stats = Stats()
    for num_drafted, num_accepted in ((3, 1), (0, 0), (2, 2)):
        stats.count_round(num_drafted, num_accepted)
    assert stats.num_rounds == 3
    assert stats.num_drafted == sum(stats.drafted_by_depth) == 5
    assert stats.drafted_by_depth == [2, 2, 1]
    assert stats.accepted_by_depth == [2, 1, 0]


def test_rates_of_nothing_are_zero() -> None:
    """Guards against a division by zero in a request that was never decoded."""
    stats = Stats()
    assert stats.acceptance_rate == stats.mean_accepted_length == stats.tokens_per_second == 0.0


def test_as_dict_has_every_count_and_rate() -> None:
    """Guards against a new field that reports leave out."""
    record = Stats(num_rounds=3).as_dict()
    assert record["num_rounds"] == 3
    assert record.keys() == {
        "num_prompt_tokens",
        "num_new_tokens",
        "num_rounds",
        "num_drafted",
        "num_accepted",
        "num_accepted_siblings",
        "drafted_by_depth",
        "accepted_by_depth",
        "prefill_seconds",
        "draft_seconds",
        "verify_seconds",
        "search_seconds",
        "decode_seconds",
        "acceptance_rate",
        "mean_accepted_length",
        "tokens_per_second",
    }
