"""From result folders to a page and figures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfdraft.bench.methods.method import PLAIN, VANILLA
from selfdraft.bench.report.comparison import change_figure, changes, differences
from selfdraft.bench.report.figure_style import Drawing
from selfdraft.bench.report.figures import (
    acceptance_figure,
    skip_map_figure,
    speedup_figure,
    time_figure,
)
from selfdraft.bench.report.page import change_section, page
from selfdraft.bench.report.stream_figures import (
    cost_figure,
    rate_figure,
    search_figure,
    stream_figure,
)
from selfdraft.bench.run.measurement import Measurement
from selfdraft.bench.run.result_folder import FORMAT, MEASUREMENTS, SUMMARY, read_json, read_lines
from selfdraft.config import require

PAGE = "report.html"


def write_report(folders: Sequence[Path], out: Path, trace: Path | None = None) -> list[Path]:
    """Write the page and each figure into `out`; the paths, the page first.

    Two folders are also compared, as before and after.

    Raises:
        ConfigError: a folder has no results, or matplotlib is missing.
    """
    results = [(folder, read_summary(folder)) for folder in folders]
    sections: list[tuple[str, dict[str, Any], list[Drawing]]] = []
    drawings: list[Drawing] = []
    for number, (folder, summary) in enumerate(results):
        own = figures_of(summary, read_lines(folder / MEASUREMENTS))
        if trace is not None and number == len(results) - 1:
            own += [d for d in [search_figure(trace)] if d]
        if len(results) > 1:  # files of two folders must not overwrite each other
            own = [replace(d, name=f"{folder.resolve().name}-{d.name}") for d in own]
        sections.append((folder.resolve().name, summary, own))
        drawings += own
    more = []
    if len(results) == 2:
        before, after = (summary for _, summary in results)
        found = changes(before, after)
        drawing = change_figure(found)
        more.append(change_section(found, differences(before, after), drawing))
        drawings += [drawing] if drawing else []
    out.mkdir(parents=True, exist_ok=True)
    (out / PAGE).write_text(page(sections, more), encoding="utf-8")
    return [out / PAGE, *(path for d in drawings for path in d.write(out / "figures"))]


def figures_of(summary: dict[str, Any], measurements: Sequence[Measurement]) -> list[Drawing]:
    """Every figure that the results have numbers for."""
    names = list(summary["methods"])
    baselines = [b for b in (PLAIN, VANILLA) if b in names]
    in_order = [m for m in measurements if m.method in names]
    drawn = [
        *(speedup_figure(summary, baseline) for baseline in baselines),
        acceptance_figure(summary),
        time_figure(summary),
        stream_figure(in_order),
        rate_figure(in_order),
        skip_map_figure(summary),
        cost_figure(summary),
    ]
    return [drawing for drawing in drawn if drawing is not None]


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a result folder.

    Raises:
        ConfigError: there is none, it is of another format, or it holds no measurement.
    """
    summary = read_json(folder / SUMMARY)
    found = summary.get("format")
    require(found == FORMAT, f"{folder} has format {found!r}, this version reads {FORMAT}")
    require(
        bool(summary["cells"]),
        f"{folder} has no prompt that every method finished: run `selfdraft bench run` again",
    )
    return summary
