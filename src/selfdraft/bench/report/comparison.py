"""Two result folders side by side: what got better, what got worse, and what nobody can tell."""

from dataclasses import dataclass
from typing import Any, Literal

from selfdraft.bench.methods.method import PLAIN, VANILLA
from selfdraft.bench.report.figure_style import Drawing, finish, styled_figure

Summary = dict[str, Any]
Verdict = Literal["better", "worse", "no clear difference"]


@dataclass(frozen=True, slots=True)
class Change:
    """One method on one task in both folders: speed over the baseline that both have."""

    task: str
    method: str
    baseline: str
    before: float
    after: float
    verdict: Verdict
    """Better or worse only where the two intervals do not touch."""

    @property
    def ratio(self) -> float:
        """After / before: above 1 is faster."""
        return self.after / self.before


def changes(before: Summary, after: Summary) -> list[Change]:
    """Every task and method that both have, as long as they share a baseline.

    A task that is the only one stands for all of them. Speedups are compared, not seconds: the
    baseline takes out a machine that was faster that day.
    """
    baseline = next((b for b in (PLAIN, VANILLA) if _has(before, b) and _has(after, b)), None)
    if baseline is None:
        return []
    old, new = _ratios(before, baseline), _ratios(after, baseline)
    is_sole = len({task for task, _ in old.keys() & new.keys() if task is not None}) == 1
    return [
        Change(
            task or "all tasks",
            method,
            baseline,
            old[task, method]["value"],
            new[task, method]["value"],
            _verdict(old[task, method], new[task, method]),
        )
        for task, method in old
        if (task, method) in new and method != baseline and not (is_sole and task is None)
    ]


def differences(before: Summary, after: Summary) -> list[str]:
    """What else is different between the folders, so that nobody blames the wrong thing."""
    ignored = {"date", "command", "commit"}
    if before.get("format") != after.get("format"):
        ignored.add("model")  # its name is an argument, too, and fingerprints do not compare
    lines = []
    for part in ("arguments", "provenance"):
        for name in before[part].keys() | after[part].keys():
            old, new = before[part].get(name), after[part].get(name)
            if old != new and not (name in ignored and part == "provenance"):
                lines.append(f"{name}: {old} before, {new} after")
    return sorted(lines)


def change_figure(found: list[Change]) -> Drawing | None:
    """Speed after over speed before."""
    if not found:
        return None
    fills = {"better": "#1f3b57", "worse": "white", "no clear difference": "#bbbbbb"}
    hatches = {"better": "", "worse": "///", "no clear difference": ""}
    with styled_figure(7.5, 1.4 + 0.34 * len(found)) as (fig, axes):
        for verdict, color in fills.items():
            rows = [i for i, c in enumerate(found) if c.verdict == verdict]
            ratios = [found[i].ratio for i in rows]
            look: dict[str, Any] = {
                "facecolor": color,
                "hatch": hatches[verdict],
                "edgecolor": "#222222",
            }
            if rows:
                axes.barh(rows, ratios, 0.66, label=verdict, **look)
            for row, ratio in zip(rows, ratios, strict=True):
                axes.text(ratio, row, f" {ratio:.2f}", va="center", fontsize=8)
        axes.axvline(1, color="black", linewidth=1)
        axes.set_xlim(0, 1.12 * max(1.0, *(c.ratio for c in found)))
        axes.set_yticks(range(len(found)), [f"{c.task}: {c.method}" for c in found])
        axes.invert_yaxis()
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"speedup over {found[0].baseline}, after / before")
        fig.legend(loc="outside upper left", ncols=3)
        return finish(
            fig,
            "changes",
            "What changed",
            "Better and worse are called so only where the 95 % intervals of the two runs do not "
            "touch.",
        )


def _has(summary: Summary, baseline: str) -> bool:
    return baseline in summary["methods"]


def _ratios(summary: Summary, baseline: str) -> dict[tuple[str | None, str], dict[str, Any]]:
    return {
        (c["task"], c["method"]): c["speedups"][baseline]["total"]
        for c in summary["cells"]
        if c["category"] is None and (c["speedups"].get(baseline) or {}).get("total")
    }


def _verdict(before: dict[str, Any], after: dict[str, Any]) -> Verdict:
    if None in (before["low"], after["low"]):
        return "no clear difference"
    if after["low"] > before["high"]:
        return "better"
    if after["high"] < before["low"]:
        return "worse"
    return "no clear difference"
