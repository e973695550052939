"""Ratios of totals and their intervals."""

import pytest
from bench_doubles import measurement

from selfdraft.bench.report.speedup import SlowestPrompt, Speedup, Work, slowest_prompt, speedup


def work(*pairs: tuple[int, float]) -> Work:
    return Work.total(
        [
            measurement(prompt_index=i, token_ids=(1,) * tokens, total_seconds=seconds)
            for i, (tokens, seconds) in enumerate(pairs)
        ]
    )


def test_the_speedup_is_a_ratio_of_totals() -> None:
    """Guards against a mean of ratios, which a short prompt can lift at will."""
    found = speedup(work((10, 1.0), (100, 100.0)), work((10, 10.0), (100, 100.0)))
    assert found is not None
    assert found.value == pytest.approx(110 / 101 / (110 / 110))


def test_the_interval_is_paired() -> None:
    """Guards against an interval as wide as the prompts differ, where the ratio is always 2."""
    fast, slow = work((10, 1.0), (10, 5.0), (10, 9.0)), work((10, 2.0), (10, 10.0), (10, 18.0))
    found = speedup(fast, slow)
    assert found is not None
    assert found.value == found.low == found.high == 2.0


def test_the_interval_shows_what_is_not_known() -> None:
    """Guards against an interval that has always no width."""
    found = speedup(work((10, 1.0), (10, 5.0), (10, 9.0)), work((10, 5.0), (10, 5.0), (10, 5.0)))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_one_prompt_has_no_interval() -> None:
    """Guards against a single prompt that looks certain."""
    found = speedup(work((10, 1.0)), work((10, 2.0)))
    assert found is not None
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_a_prompt_without_decoding_leaves_an_interval() -> None:
    """Guards against an interval that is no number, and a summary that is no JSON: a text of one
    token decodes nothing in no time, and some draws have nothing else.
    """
    found = speedup(work((0, 0.0), (10, 1.0)), work((0, 0.0), (10, 2.0)))
    assert found == Speedup(2.0, 2.0, 2.0)


def test_the_slowest_prompt_is_that_of_the_least_ratio() -> None:
    """Guards against the prompt with the fewest tokens per second, which may have gained most."""
    fast, slow = work((10, 1.0), (10, 5.0), (10, 2.0)), work((10, 2.0), (10, 20.0), (10, 1.8))
    assert slowest_prompt(fast, slow) == SlowestPrompt("t", 2, pytest.approx(0.9))
    assert slowest_prompt(work(), work()) is None


def test_what_was_not_measured_has_no_speedup() -> None:
    """Guards against a peer without a decode time that decodes in no time at all."""
    known, unknown = measurement(), measurement(prompt_index=1, decode_seconds=None)
    assert Work.decode([known, unknown]) is None
    assert speedup(None, Work.total([known])) is None
    assert speedup(Work.total([known]), None) is None


def test_repeats_are_one_prompt() -> None:
    """Guards against repeats being counted as prompts, which would narrow the interval."""
    repeats = [measurement(repeat=r, total_seconds=1.0 + r) for r in range(3)]
    assert Work.total(repeats).seconds.tolist() == [6.0]
