"""Numbers of a stream, from passages that are made up."""

from dataclasses import replace

import pytest

from selfdraft.bench.methods import Request
from selfdraft.bench.stream_runner import Passage, Segment
from selfdraft.bench.stream_summary import acceptance_of, rounds_to_recover, summarise_stream
from selfdraft.drafting.chain_outcome import ChainOutcome

GOOD, BAD, NONE = ChainOutcome(9, True), ChainOutcome(1, True), ChainOutcome()
PLAIN = Passage(
    draft="off",
    segment=0,
    prompt=0,
    token_ids=(1,) * 20,
    prefill_seconds=1.0,
    decode_seconds=4.0,
    search_seconds=0.0,
    outcomes=(NONE,) * 20,
    num_switches=0,
    num_starts=0,
    share_spent=0.0,
)
DRAFTED = replace(
    PLAIN,
    draft="auto",
    decode_seconds=2.0,
    search_seconds=0.2,
    outcomes=(GOOD, BAD),
    num_switches=1,
    num_starts=1,
)


def test_acceptance_is_of_tokens_not_of_rounds() -> None:
    """Guards against a mean of rates, and a round without a draft that counts as a bad one."""
    assert acceptance_of([GOOD, BAD, NONE]) == pytest.approx(10 / 12)
    assert acceptance_of([NONE, NONE]) is None
    assert acceptance_of([ChainOutcome(3, was_wrong=False)]) == 1.0


def test_recovery_is_the_first_round_that_stays_good() -> None:
    """Guards against one lucky round that is taken for a recovery, and a late mean with the dip."""
    dip = [BAD] * 40 + [GOOD] * 160
    assert 25 <= rounds_to_recover(dip) <= 40
    lucky = [GOOD, *[BAD] * 40, *[GOOD] * 159]
    assert rounds_to_recover(lucky) > 20
    assert rounds_to_recover([GOOD] * 100) == 0
    assert rounds_to_recover([GOOD] * 50 + [NONE] * 50) is None


def test_rows_are_ratios_of_totals_on_the_same_prompts() -> None:
    """Guards speedups that forget prefill, search or another segment."""
    later = [replace(p, segment=1) for p in (PLAIN, DRAFTED)]
    later[1] = replace(later[1], num_starts=3, decode_seconds=4.0)
    segments = [Segment(name, [Request((1,), 20)]) for name in ("a", "b")]
    rows = summarise_stream(segments, [PLAIN, DRAFTED, *later])
    by_key = {(row.segment, row.draft): row for row in rows}
    assert list(by_key) == [(s, d) for s in ("a", "b", None) for d in ("off", "auto")]
    first, second, whole = (by_key[name, "auto"] for name in ("a", "b", None))
    assert first.speedup == pytest.approx(2.0)
    assert first.speedup_with_prefill == pytest.approx(5 / 3)
    assert first.search_share == pytest.approx(0.2 / 1.8)
    assert first.mean_accepted_length == 10
    assert second.speedup == pytest.approx(1.0)
    assert whole.speedup == pytest.approx(8 / 6)
    assert (first.num_restarts, second.num_restarts, whole.num_restarts) == (0, 2, 2)
    assert (first.num_switches, whole.num_switches) == (1, 2)
    assert by_key["a", "off"].speedup == 1.0
    assert whole.rounds_to_recover is None


def test_another_text_is_seen() -> None:
    """Guards the exit code: one token more, less or other is another output."""
    segments = [Segment("a", [Request((1,), 20)])]
    for token_ids in ((1,) * 19, (1,) * 19 + (2,), (1,) * 21):
        rows = summarise_stream(segments, [PLAIN, replace(DRAFTED, token_ids=token_ids)])
        assert [row.num_different for row in rows] == [0, 1, 0, 1]
