"""Figures along a run: speed on the stream of tokens, cost curves, and the search."""

import json
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfdraft.bench.report.figure_style import (
    Drawing,
    count_on_x,
    finish,
    line_looks,
    styled_figure,
)
from selfdraft.bench.run.measurement import Measurement
from selfdraft.errors import ConfigError


def stream_figure(measurements: Sequence[Measurement]) -> Drawing | None:
    """Tokens per second of each prompt, in the order of measuring, with the borders of tasks."""
    order = list(dict.fromkeys(m.prompt_key for m in measurements if m.total_seconds))
    methods = list(dict.fromkeys(m.method for m in measurements))
    if len(order) < 2:
        return None
    place = {key: i + 1 for i, key in enumerate(order)}
    label_of = {m.prompt_key: f"{m.task}: {m.category}" for m in measurements}
    style = line_looks(methods)
    with styled_figure(8.5, 4.2) as (fig, axes):
        for method in methods:
            own = [m for m in measurements if m.method == method and m.total_seconds]
            points = sorted((place[m.prompt_key], len(m.token_ids) / m.total_seconds) for m in own)
            axes.plot(*zip(*points, strict=True), label=method, markersize=4, **style[method])
        _mark_segments(axes, [label_of[key] for key in order])
        axes.set_ylim(0, None)
        axes.set_xlim(0.5, len(order) + 0.5)
        count_on_x(axes)
        axes.set_xlabel("prompt, in the order of measuring")
        axes.set_ylabel("tokens/s, prefill included")
        fig.legend(loc="outside upper left", ncols=4)
        return finish(
            fig,
            "stream",
            "Speed along the stream",
            "One point per prompt. Grey lines are where the kind of text changes, where it does so "
            "seldom enough to be drawn.",
        )


def rate_figure(measurements: Sequence[Measurement], num_bins: int = 16) -> Drawing | None:
    """Tokens per second within an output, by how much of it is written: the median of prompts."""
    methods = list(dict.fromkeys(m.method for m in measurements))
    longest = max((len(m.token_ids) for m in measurements), default=0)
    if longest < 2 * num_bins:
        return None
    edges = [longest * i / num_bins for i in range(num_bins + 1)]
    style = line_looks(methods)
    with styled_figure(6.5, 3.8) as (fig, axes):
        for method in methods:
            timelines = [m.timeline for m in measurements if m.method == method]
            points = []
            for low, high in pairwise(edges):
                rates = [r for t in timelines if (r := _rate_between(t, low, high)) is not None]
                if rates:
                    points.append(((low + high) / 2, statistics.median(rates)))
            if points:
                axes.plot(*zip(*points, strict=True), label=method, markersize=4, **style[method])
        axes.set_ylim(0, None)
        axes.set_xlim(0, longest)
        axes.set_xlabel("new tokens")
        axes.set_ylabel("tokens/s, median of prompts")
        fig.legend(loc="outside upper left", ncols=4)
        return finish(
            fig,
            "rate-in-output",
            "Speed within an output",
            "Tokens per second over stretches of the output; prefill is before the first stretch.",
        )


def cost_figure(summary: dict[str, Any]) -> Drawing | None:
    """Milliseconds of a pass by its rows, if they were timed."""
    costs = summary.get("pass_costs") or []
    target = sorted((c["num_rows"], 1e3 * c["seconds"]) for c in costs if c["plan"] == "target")
    drafts = [(c["plan"], 1e3 * c["seconds"]) for c in costs if c["plan"] != "target"]
    if not target:
        return None
    style = line_looks(["target", *(name for name, _ in drafts)])
    with styled_figure(6.5, 3.8) as (fig, axes):
        axes.plot(*zip(*target, strict=True), label="target", **style["target"])
        for name, milliseconds in drafts:
            look = style[name] | {"linestyle": "none"}
            axes.plot([1], [milliseconds], label=f"draft step: {name}", **look)
        axes.set_ylim(0, None)
        axes.set_xlim(0, target[-1][0] + 1)
        axes.set_xticks([rows for rows, _ in target])
        axes.set_xlabel("rows of the pass")
        axes.set_ylabel("ms")
        fig.legend(loc="outside upper left", ncols=3)
        return finish(
            fig,
            "pass-costs",
            "What a pass costs",
            f"Median time of a pass behind {costs[0]['context']} cached tokens.",
        )


def search_figure(trace: Path) -> Drawing | None:
    """Matchness against search steps, from a trace of the search (`event` lines of JSON)."""
    values: list[float] = []
    kinds: list[str] = []
    starts = [0]  # of windows: scores on one text say nothing about another
    for event in _events(trace):
        if event["event"] == "window" and len(values) > starts[-1]:
            starts.append(len(values))
        elif isinstance(event.get("matchness"), int | float):
            values.append(float(event["matchness"]))
            kinds.append(str(event.get("source", event["event"])))
    if not values:
        return None
    ends = [*starts[1:], len(values)]
    best = [max(values[a : i + 1]) for a, b in zip(starts, ends, strict=True) for i in range(a, b)]
    style = line_looks(sorted(set(kinds)))
    with styled_figure(7, 3.8) as (fig, axes):
        for kind in sorted(set(kinds)):
            steps = [i + 1 for i, k in enumerate(kinds) if k == kind]
            look = style[kind] | {"linestyle": "none"}
            axes.plot(steps, [values[i - 1] for i in steps], label=kind, markersize=4, **look)
        axes.step(range(1, len(best) + 1), best, where="post", color="black", label="best so far")
        for start in starts[1:]:
            axes.axvline(start + 0.5, color="#999999", linewidth=0.8)
        axes.set_ylim(0, 1.03)
        axes.set_xlim(0, len(values) + 1)
        axes.set_xlabel("scored proposals")
        axes.set_ylabel("matchness")
        fig.legend(loc="outside upper left", ncols=4)
        return finish(
            fig,
            "search",
            "The search",
            "Share of the latest tokens that a proposed draft predicts. Grey lines: a new text to "
            "score on, where the best starts anew, because scores of two texts are not comparable.",
        )


def _mark_segments(axes: Any, labels: Sequence[str]) -> None:
    borders = [i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]
    if len(borders) > len(labels) // 3:
        return  # prompts of all kinds in turn: every place is a border
    starts = [0, *borders]
    for start, end in zip(starts, [*borders, len(labels)], strict=True):
        if start:
            axes.axvline(start + 0.5, color="#999999", linewidth=0.8)
        axes.text(
            (start + end) / 2 + 0.5,
            0.01,
            labels[start],
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7,
            rotation=0 if len(starts) < 6 else 90,
        )


def _rate_between(timeline: Sequence[tuple[float, int]], low: float, high: float) -> float | None:
    """Tokens per second from the first time that `low` tokens were there to that of `high`."""
    inside = [(seconds, tokens) for seconds, tokens in timeline if tokens >= low]
    end = next((i for i, (_, tokens) in enumerate(inside) if tokens >= high), None)
    if end is None or end == 0:
        return None
    seconds = inside[end][0] - inside[0][0]
    return (inside[end][1] - inside[0][1]) / seconds if seconds > 0 else None


def _events(trace: Path) -> list[dict[str, Any]]:
    try:
        lines = trace.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the trace {trace}: {error}") from error
    return [e for e in events if isinstance(e, dict) and "event" in e]
