"""Numbers of a stream, from passages that are made up."""

from dataclasses import replace

import pytest

from research.stream_runner import Passage, Segment
from research.stream_summary import summarise_stream
from selfdraft.bench.methods.method import Request
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
    assert whole.recovery is whole.rounds_to_recover is None


def test_a_segment_is_seen_beside_the_one_before_it() -> None:
    """Guards the order of segments, and a draft that another one's level is held against."""
    segments = [Segment(name, [Request((1,), 20)]) for name in ("a", "b", "c")]
    good, bad = (GOOD,) * 100, (BAD,) * 100
    passages = [
        replace(p, segment=number, outcomes=outcomes)
        for number, outcomes in enumerate((good, bad, bad))
        for p in (PLAIN, replace(DRAFTED, draft="swift"), DRAFTED)
    ]
    passages[-1] = replace(passages[-1], outcomes=bad + good)
    rows = summarise_stream(segments, passages)
    found = {(r.segment, r.draft): (r.recovery, r.rounds_to_recover) for r in rows}
    assert found["a", "swift"] == found["a", "auto"] == ("back", 0)
    assert found["b", "swift"] == found["b", "auto"] == ("lower", 0)
    assert found["c", "swift"] == ("back", 0)
    assert found["c", "auto"] == ("never", None)


def test_a_stream_that_was_stopped_has_rows_of_what_was_done() -> None:
    """Guards against a segment's level that is taken from its beginning."""
    requests = [Request((1,), 20)] * 2
    segments = [Segment("a", requests[:1]), Segment("b", requests), Segment("c", requests)]
    drafted = replace(DRAFTED, outcomes=(GOOD,) * 100)
    passages = [replace(p, segment=number) for number in (0, 1) for p in (PLAIN, drafted)]
    rows = summarise_stream(segments, passages)
    assert [(r.segment, r.draft) for r in rows] == [
        (s, d) for s in ("a", "b", None) for d in ("off", "auto")
    ]
    assert [r.recovery for r in rows if r.draft == "auto"] == ["back", "too short", None]
    assert rows[-1].num_prompts == 2
    assert summarise_stream(segments, []) == []


def test_another_text_is_seen() -> None:
    """Guards the exit code: one token more, less or other is another output."""
    segments = [Segment("a", [Request((1,), 20)])]
    for token_ids in ((1,) * 19, (1,) * 19 + (2,), (1,) * 21):
        rows = summarise_stream(segments, [PLAIN, replace(DRAFTED, token_ids=token_ids)])
        assert [row.num_different for row in rows] == [0, 1, 0, 1]
