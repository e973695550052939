"""Figures of one summary: speed, acceptance and where the time went."""

import math
from typing import TYPE_CHECKING, Any

from selfdraft.bench.report.figure_style import (
    Drawing,
    count_on_x,
    finish,
    line_looks,
    looks,
    styled_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer

Summary = dict[str, Any]

_MAX_WIDTH = 9.5  # inches; on the page a wider figure would only be shrunk
_MAX_LABELLED_BARS = 24
_SLANT_FROM = 6

_TIME_PARTS = ("prefill", "verify", "draft", "search", "other")

# Depths that fewer rounds than this reached say nothing about a rate.
_MIN_ROUNDS = 5


def speedup_figure(summary: Summary, baseline: str) -> Drawing | None:
    """Speedup over `baseline` for each task and method, with its interval."""
    groups = _groups(summary)
    table = {
        (label, c["method"]): c["speedups"][baseline]["total"]
        for label, cells in groups
        for c in cells
        if (c["speedups"].get(baseline) or {}).get("total")
    }
    methods = [m for m in summary["methods"] if m != baseline and m in {m for _, m in table}]
    if not methods:
        return None
    num_bars = len(groups) * (len(methods) + 1)
    width = min(_MAX_WIDTH, max(6.5, 1.2 + 0.42 * num_bars))
    with styled_figure(width, 4.2) as (fig, axes):
        for number, method in enumerate(methods):
            ratios = [table.get((label, method)) for label, _ in groups]
            offset = (number - (len(methods) - 1) / 2) * 0.8 / len(methods)
            bars = _bars(axes, method, ratios, offset, 0.74 / len(methods), looks(methods)[method])
            if num_bars <= _MAX_LABELLED_BARS:
                axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        axes.axhline(1, color="black", linewidth=1)
        axes.set_ylim(0, None)
        axes.set_ylabel(f"tokens/s over those of {baseline}")
        _label_groups(axes, [f"{label} ({cells[0]['num_prompts']})" for label, cells in groups])
        fig.legend(loc="outside upper left", ncols=min(4, len(methods)))
        return finish(
            fig,
            f"speedup-over-{baseline}",
            f"Speedup over {baseline}",
            "Ratio of total tokens per second, prefill included, with the 95 % interval of a "
            "paired bootstrap over prompts; in brackets the number of prompts.",
        )


def _bars(
    axes: "Axes",
    method: str,
    ratios: list[dict[str, Any] | None],
    offset: float,
    width: float,
    look: dict[str, Any],
) -> "BarContainer":
    """The bars of one method, with whiskers where there is an interval."""
    known = [(place + offset, r) for place, r in enumerate(ratios) if r is not None]
    places = [place for place, _ in known]
    values = [r["value"] for _, r in known]
    # One prompt has no interval, and no whisker: one of no length would look like certainty.
    low = [math.nan if r["low"] is None else r["value"] - r["low"] for _, r in known]
    high = [math.nan if r["high"] is None else r["high"] - r["value"] for _, r in known]
    whiskers: dict[str, Any] = {"yerr": [low, high], "ecolor": "black", "capsize": 2}
    return axes.bar(places, values, width, label=method, **look, **whiskers)


def _label_groups(axes: "Axes", labels: list[str]) -> None:
    """Names below the bars; slanted where there are too many to stand side by side."""
    if len(labels) < _SLANT_FROM:
        axes.set_xticks(range(len(labels)), [_wrapped(label) for label in labels])
    else:
        axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right")


def acceptance_figure(summary: Summary) -> Drawing | None:
    """Share of drafted positions that were accepted, by depth."""
    curves = {}
    for cell in _overall(summary):
        pairs = zip(cell["drafted_by_depth"], cell["accepted_by_depth"], strict=True)
        kept = [(d, a) for d, a in pairs if d >= _MIN_ROUNDS]
        if kept:
            curves[cell["method"]] = [a / d for d, a in kept]
    if not curves:
        return None
    style = line_looks(list(curves))
    with styled_figure(6.5, 3.8) as (fig, axes):
        for name, rates in curves.items():
            axes.plot(range(1, len(rates) + 1), rates, label=name, markersize=5, **style[name])
        axes.set_ylim(0, 1.03)
        axes.set_xlim(0.5, None)
        axes.set_xlabel("depth of the drafted position")
        axes.set_ylabel("accepted / drafted")
        count_on_x(axes)
        fig.legend(loc="outside upper left", ncols=4)
        return finish(
            fig,
            "acceptance-by-depth",
            "Acceptance by depth",
            f"Of the rounds that drafted a position at this depth, the share that kept it. Depths "
            f"that fewer than {_MIN_ROUNDS} rounds reached are left out.",
        )


def time_figure(summary: Summary) -> Drawing | None:
    """Shares of the total time, by what it was spent on."""
    cells = [c for c in _overall(summary) if c["time_shares"]]
    if not cells:
        return None
    style = looks(_TIME_PARTS)
    with styled_figure(6.5, 1.3 + 0.42 * len(cells)) as (fig, axes):
        names = [c["method"] for c in cells]
        left = [0.0] * len(cells)
        for part in _TIME_PARTS:
            shares = [100 * c["time_shares"][part] for c in cells]
            axes.barh(names, shares, 0.62, left=left, label=part, **style[part])
            for row, (start, share) in enumerate(zip(left, shares, strict=True)):
                if share >= 7:
                    axes.text(
                        start + share / 2,
                        row,
                        f"{share:.0f}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
                    )
            left = [start + share for start, share in zip(left, shares, strict=True)]
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(visible=False)
        axes.set_xlabel("% of the total time")
        fig.legend(loc="outside upper left", ncols=5)
        return finish(
            fig,
            "time-shares",
            "Where the time goes",
            "Shares of the total time. `other` is everything between the passes: choosing, "
            "keeping, turning tokens into text.",
        )


def skip_map_figure(summary: Summary) -> Drawing | None:
    """Which sublayers each draft skips, layer by layer."""
    sets = {
        name: method["skip_set"]
        for name, method in summary["methods"].items()
        if method.get("skip_set") and (method["skip_set"]["attention"] or method["skip_set"]["mlp"])
    }
    if not sets:
        return None
    num_layers = summary["layers"]["num_layers"]
    eligible = set(summary["layers"]["eligible"])
    rows = [(name, kind) for name in sets for kind in ("attention", "mlp")]
    with styled_figure(max(6.5, 1.8 + 0.17 * num_layers), 1.2 + 0.3 * len(rows)) as (fig, axes):
        for row, (name, kind) in enumerate(rows):
            for layer in range(num_layers):
                is_skipped = layer in sets[name][kind]
                color = "#1f3b57" if is_skipped else "white" if layer in eligible else "#dddddd"
                axes.add_patch(_square(layer, row, color))
        axes.set_xlim(-0.6, num_layers - 0.4)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [f"{name}: {kind}" for name, kind in rows])
        axes.set_xlabel("layer")
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        return finish(
            fig,
            "skip-map",
            "What the drafts skip",
            "Dark: skipped. White: kept. Grey: never skipped.",
        )


def _square(x: int, y: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.42, y - 0.4), 0.84, 0.8, facecolor=color, edgecolor="#555555", lw=0.6)


def _overall(summary: Summary) -> list[dict[str, Any]]:
    return [c for c in summary["cells"] if c["task"] is None]


def _groups(summary: Summary) -> list[tuple[str, list[dict[str, Any]]]]:
    """Tasks, then a single task's categories, then everything: what stands beside each other."""
    cells = summary["cells"]
    tasks = list(dict.fromkeys(c["task"] for c in cells if c["task"] is not None))
    keys: list[tuple[str | None, str | None]] = [(task, None) for task in tasks]
    if len(tasks) == 1:
        categories = dict.fromkeys(c["category"] for c in cells if c["category"] is not None)
        keys = [(tasks[0], category) for category in categories] if len(categories) > 1 else []
    groups = [
        (
            category or task or "",
            [c for c in cells if (c["task"], c["category"]) == (task, category)],
        )
        for task, category in keys
    ]
    return [*groups, ("all", _overall(summary))]


def _wrapped(label: str) -> str:
    """A label in two lines where one would run into its neighbour."""
    middle = math.ceil(len(label) / 2)
    breaks = [i for i, letter in enumerate(label) if letter in " _-"]
    if len(label) <= 12 or not breaks:
        return label
    place = min(breaks, key=lambda i: abs(i - middle))
    return label[:place] + "\n" + label[place:].strip(" _-")
