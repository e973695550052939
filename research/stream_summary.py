"""What a stream showed: each draft in each segment, how soon it recovered, and the whole stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from research.recovery import Recovery, Verdict, acceptance_of, recovery_of
from research.stream_drafts import VANILLA
from research.stream_runner import Passage, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One draft in one segment, or in the whole stream."""

    segment: str | None
    """None is the whole stream."""
    draft: str
    num_prompts: int
    num_new_tokens: int
    num_rounds: int
    mean_accepted_length: float
    acceptance: float | None
    """Of the tokens that the model's own draft named; None if it named none."""
    draft_share: float
    """Rounds in which it named any."""
    decode_tokens_per_second: float
    speedup: float
    """Of decoding, over vanilla on the same prompts."""
    speedup_with_prefill: float
    search_share: float
    """Seconds between rounds (search, and learning) over the decode seconds without them."""
    num_restarts: int
    num_switches: int
    recovery: Verdict | None
    """See `recovery_of`; None for the whole stream."""
    rounds_to_recover: int | None
    later_acceptance: float | None
    """Of the segment's second half: the level that acceptance came back to."""
    num_different: int
    """Outputs that are not vanilla's, token by token."""


def summarise_stream(segments: Sequence[Segment], passages: Sequence[Passage]) -> list[StreamRow]:
    """A row for each segment that was begun and draft, then one for each draft over all of it.

    Every draft must have a passage of the same prompts.
    """
    names = list(dict.fromkeys(passage.draft for passage in passages))
    recoveries = {name: _recoveries(name, segments, passages) for name in names}
    begun = sorted({passage.segment for passage in passages})
    rows = [
        _row(
            name,
            segments[number].name,
            [p for p in passages if p.segment == number],
            passages,
            recoveries[name][number],
        )
        for number in begun
        for name in names
    ]
    return rows + [_row(name, None, passages, passages, None) for name in names]


def _recoveries(
    name: str, segments: Sequence[Segment], passages: Sequence[Passage]
) -> list[Recovery]:
    """By segment, each seen beside the one before it."""
    recoveries: list[Recovery] = []
    for number, segment in enumerate(segments):
        own = [p for p in passages if p.draft == name and p.segment == number]
        outcomes = [outcome for p in own for outcome in p.outcomes]
        level_before = recoveries[-1].level if recoveries else None
        recovery = recovery_of(outcomes, level_before)
        if len(own) < len(segment.requests):
            recovery = Recovery(Verdict.TOO_SHORT, None, None)
        recoveries.append(recovery)
    return recoveries


def _row(
    name: str,
    segment: str | None,
    members: Sequence[Passage],
    passages: Sequence[Passage],
    recovery: Recovery | None,
) -> StreamRow:
    own = [p for p in members if p.draft == name]
    vanilla = {(p.segment, p.prompt): p for p in members if p.draft == VANILLA}
    outcomes = [outcome for p in own for outcome in p.outcomes]
    num_tokens = sum(len(p.token_ids) for p in own)
    decode = sum(p.decode_seconds for p in own)
    search = sum(p.search_seconds for p in own)
    first = own[0]
    before = [p.num_starts for p in passages if p.draft == name and p.segment < first.segment]
    has_drafted = [outcome.num_right or outcome.was_wrong for outcome in outcomes]
    return StreamRow(
        segment=segment,
        draft=name,
        num_prompts=len(own),
        num_new_tokens=num_tokens,
        num_rounds=len(outcomes),
        mean_accepted_length=num_tokens / len(outcomes),
        acceptance=acceptance_of(outcomes),
        draft_share=sum(map(bool, has_drafted)) / len(outcomes),
        decode_tokens_per_second=num_tokens / decode,
        speedup=_ratio(vanilla.values(), num_tokens, decode, has_prefill=False),
        speedup_with_prefill=_ratio(
            vanilla.values(),
            num_tokens,
            decode + sum(p.prefill_seconds for p in own),
            has_prefill=True,
        ),
        search_share=search / (decode - search),
        num_restarts=max(0, max(p.num_starts for p in own) - max(before, default=1)),
        num_switches=sum(p.num_switches for p in own),
        recovery=None if recovery is None else recovery.verdict,
        rounds_to_recover=None if recovery is None else recovery.num_rounds,
        later_acceptance=None if recovery is None else recovery.level,
        num_different=sum(p.token_ids != vanilla[p.segment, p.prompt].token_ids for p in own),
    )


def _ratio(
    vanilla: Iterable[Passage], num_tokens: int, seconds: float, *, has_prefill: bool
) -> float:
    """Tokens per second over vanilla's."""
    num_vanilla, vanilla_seconds = 0, 0.0
    for passage in vanilla:
        num_vanilla += len(passage.token_ids)
        vanilla_seconds += passage.decode_seconds + has_prefill * passage.prefill_seconds
    return num_tokens / seconds / (num_vanilla / vanilla_seconds)
