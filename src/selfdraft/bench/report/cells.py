"""Cells: what a method did on a task, a category of it, or all tasks; the table of a summary."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from selfdraft.bench.report.identity import REFERENCES
from selfdraft.bench.report.speedup import SlowestPrompt, Speedup, Work, slowest_prompt, speedup
from selfdraft.bench.run.measurement import Measurement, PromptKey

# What the engine counts apart; the rest of the total is `other`. A part that an engine does not
# have counts as zero.
_PARTS = ("prefill", "draft", "verify", "search")


def complete_only(measurements: Iterable[Measurement], methods: Sequence[str]) -> list[Measurement]:
    """The measurements of prompts that every method has finished: totals of equal work."""
    by_prompt: dict[PromptKey, list[Measurement]] = {}
    for measurement in measurements:
        by_prompt.setdefault(measurement.prompt_key, []).append(measurement)
    return [
        measurement
        for members in by_prompt.values()
        if {m.method for m in members} >= set(methods)
        for measurement in members
    ]


def cells(measurements: Sequence[Measurement], methods: Sequence[str]) -> list[dict[str, Any]]:
    """One cell per method for everything, for each task and for each of its categories."""
    groups: dict[tuple[str | None, str | None], list[Measurement]] = {(None, None): []}
    for m in measurements:
        groups[None, None].append(m)
        groups.setdefault((m.task, None), []).append(m)
    for m in measurements:
        groups.setdefault((m.task, m.category), []).append(m)
    return [
        {"task": task, "category": category} | cell
        for (task, category), members in groups.items()
        for cell in _cells_of(members, methods)
    ]


def _cells_of(members: Sequence[Measurement], methods: Sequence[str]) -> list[dict[str, Any]]:
    by_method = {name: [m for m in members if m.method == name] for name in methods}
    return [_cell(name, by_method) for name in methods if by_method[name]]


def _cell(name: str, by_method: dict[str, list[Measurement]]) -> dict[str, Any]:
    own = by_method[name]
    total, decode = Work.total(own), Work.decode(own)
    cell: dict[str, Any] = {
        "method": name,
        "num_prompts": len(total.seconds),
        "num_measurements": len(own),
        "num_new_tokens": sum(len(m.token_ids) for m in own),
        "total_seconds": sum(m.total_seconds for m in own),
        "total_tokens_per_second": total.tokens_per_second,
        "decode_tokens_per_second": None if decode is None else decode.tokens_per_second,
        "speedups": {},
        "slowest_prompts": {},
        "peak_bytes": max((m.peak_bytes for m in own if m.peak_bytes is not None), default=None),
        "extra_bytes": max((m.extra_bytes for m in own if m.extra_bytes is not None), default=None),
    }
    for baseline in REFERENCES:
        if by_method.get(baseline):
            theirs = by_method[baseline]
            cell["speedups"][baseline] = {
                "total": _plain(speedup(total, Work.total(theirs))),
                "decode": _plain(speedup(decode, Work.decode(theirs))),
            }
            slowest = slowest_prompt(total, Work.total(theirs))
            cell["slowest_prompts"][baseline] = _plain(slowest)
    return cell | _acceptance(own) | {"time_shares": _time_shares(own)}


def _plain(found: Speedup | SlowestPrompt | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _acceptance(own: Sequence[Measurement]) -> dict[str, Any]:
    """Mean accepted length for who shows rounds; the rest for who counts drafted positions."""
    rounds = [m.num_rounds for m in own if m.num_rounds is not None]
    num_tokens = sum(len(m.token_ids) for m in own)
    num_rounds = sum(rounds)
    num_drafted = _sum(own, "num_drafted")
    num_accepted = _sum(own, "num_accepted")
    return {
        "mean_accepted_length": num_tokens / num_rounds if num_rounds else None,
        "acceptance_rate": num_accepted / num_drafted if num_drafted else None,
        "drafted_by_depth": _sum_lists(own, "drafted_by_depth"),
        "accepted_by_depth": _sum_lists(own, "accepted_by_depth"),
    }


def _time_shares(own: Sequence[Measurement]) -> dict[str, float] | None:
    """Shares of the total time, by what it was spent on; None for methods that do not say."""
    total = sum(m.total_seconds for m in own)
    if not total or not all("verify_seconds" in m.stats for m in own):
        return None
    shares = {part: _sum(own, f"{part}_seconds") / total for part in _PARTS}
    return shares | {"other": max(0.0, 1 - sum(shares.values()))}


def _sum(own: Sequence[Measurement], field: str) -> float:
    return sum(float(m.stats.get(field, 0)) for m in own)


def _sum_lists(own: Sequence[Measurement], field: str) -> list[int]:
    lists = [m.stats.get(field, []) for m in own]
    depth = max(map(len, lists), default=0)
    return [sum(counts[d] for counts in lists if d < len(counts)) for d in range(depth)]
