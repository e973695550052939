"""The page and its figures."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_up_results import METHODS, write_results, write_trace
from matplotlib.backends.backend_agg import FigureCanvasAgg

from selfdraft.bench.report import comparison, figures, stream_figures
from selfdraft.bench.report.comparison import changes, differences
from selfdraft.bench.report.figure_style import finish
from selfdraft.bench.report.write import write_report
from selfdraft.errors import ConfigError

FIGURES = {
    "speedup-over-transformers",
    "speedup-over-off",
    "acceptance-by-depth",
    "time-shares",
    "stream",
    "rate-in-output",
    "skip-map",
    "pass-costs",
    "search",
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every matplotlib figure that is finished, by its name."""
    kept: dict[str, Any] = {}

    def keep(figure: Any, name: str, *texts: str) -> Any:
        kept[name] = figure
        return finish(figure, name, *texts)

    for module in (figures, stream_figures, comparison):
        monkeypatch.setattr(module, "finish", keep)
    return kept


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_has_every_figure(tmp_path: Path) -> None:
    """Guards against a page that is empty once it is sent to somebody."""
    write_results(tmp_path / "run")
    trace = write_trace(tmp_path / "trace.jsonl")
    page, *files = write_report([tmp_path / "run"], tmp_path / "out", trace)
    text = page.read_text()
    sources = re.findall(r'(?:src|href)=["\']([^"\']*)', text)
    assert len(sources) == len(FIGURES)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"<(script|link|iframe)", text)
    assert {f.stem for f in files} == FIGURES
    assert {f.suffix for f in files} == {".png", ".svg"}
    assert "a &lt;model&gt;" in text
    assert "<model>" not in text


@pytest.mark.slow
def test_bars_and_rates_start_at_zero(tmp_path: Path, drawn: dict[str, Any]) -> None:
    """Guards against an axis that makes a small difference look large."""
    write_results(tmp_path / "run")
    write_report([tmp_path / "run"], tmp_path / "out", write_trace(tmp_path / "trace.jsonl"))
    assert drawn.keys() == FIGURES
    for name, figure in drawn.items():
        (axes,) = figure.axes
        lower = axes.get_xlim()[0] if name == "time-shares" else axes.get_ylim()[0]
        assert lower == 0 or name == "skip-map", name


@pytest.mark.slow
def test_no_two_labels_overlap(tmp_path: Path, drawn: dict[str, Any]) -> None:
    """Guards against labels that cover each other when there are many tasks or methods."""
    write_results(tmp_path / "run")
    write_report([tmp_path / "run"], tmp_path / "out")
    for name, figure in drawn.items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        (axes,) = figure.axes
        for labels in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts):
            shown = [t for t in labels if t.get_text() and t.get_visible()]
            boxes = [t.get_window_extent(renderer) for t in shown]
            for i, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[i + 1 :]), name


@pytest.mark.slow
def test_methods_are_told_apart_without_colour(tmp_path: Path, drawn: dict[str, Any]) -> None:
    """Guards against bars and lines that are the same in print."""
    write_results(tmp_path / "run")
    write_report([tmp_path / "run"], tmp_path / "out")
    bars = drawn["speedup-over-transformers"].axes[0].containers
    hatches = [c.patches[0].get_hatch() for c in bars if hasattr(c, "patches")]
    assert len(hatches) == len(METHODS) - 1
    assert len(set(hatches)) == len(hatches)
    lines = [line for line in drawn["stream"].axes[0].lines if len(line.get_xdata()) > 2]
    looks = {(line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == len(METHODS)


@pytest.mark.slow
def test_figures_are_whole_files(tmp_path: Path) -> None:
    """Guards against files that no program opens."""
    write_results(tmp_path / "run")
    _, *files = write_report([tmp_path / "run"], tmp_path / "out")
    for file in files:
        if file.suffix == ".svg":
            ElementTree.parse(file)
        else:
            assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_wrong_method_stands_at_the_top(tmp_path: Path) -> None:
    """Guards against a page that praises the speed of wrong text."""
    write_results(tmp_path / "run", wrong="auto")
    page, *_ = write_report([tmp_path / "run"], tmp_path / "out")
    text = page.read_text()
    assert 0 < text.index("auto is not lossless") < text.index("<table>")
    write_results(tmp_path / "right")
    page, *_ = write_report([tmp_path / "right"], tmp_path / "out")
    assert "not lossless" not in page.read_text()


@pytest.mark.slow
def test_two_folders_are_before_and_after(tmp_path: Path) -> None:
    """Guards against figures of one folder that overwrite the other's."""
    write_results(tmp_path / "one")
    write_results(tmp_path / "two", factor=1.5)
    page, *files = write_report([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert "Before and after" in page.read_text()
    assert len({f.name for f in files}) == len(files)
    assert {"one-time-shares.png", "two-time-shares.png", "changes.png"} <= {f.name for f in files}


def test_better_and_worse_need_intervals_that_do_not_touch(tmp_path: Path) -> None:
    """Guards against noise that is called progress."""
    before = write_results(tmp_path / "one")
    faster = write_results(tmp_path / "two", factor=1.5)
    slower = write_results(tmp_path / "three", factor=0.7)

    def verdicts(after: dict[str, Any]) -> dict[str, str]:
        return {c.method: c.verdict for c in changes(before, after) if c.task == "all tasks"}

    assert verdicts(faster)["auto"] == "better"
    assert verdicts(slower)["auto"] == "worse"
    assert verdicts(faster)["swift"] == "no clear difference"
    (ratio,) = [c.ratio for c in changes(before, faster) if (c.task, c.method) == ("gsm8k", "auto")]
    assert ratio == pytest.approx(1.5)


def test_a_sole_task_is_not_shown_twice(tmp_path: Path) -> None:
    """Guards against a table whose lines all come twice, as "all tasks" again."""
    before = write_results(tmp_path / "one")
    one_task = before | {"cells": [c for c in before["cells"] if c["task"] in (None, "gsm8k")]}
    assert {c.task for c in changes(before, before)} > {"gsm8k", "all tasks"}
    assert {c.task for c in changes(one_task, before)} == {"gsm8k"}


def test_what_else_differs_is_said(tmp_path: Path) -> None:
    """Guards against a change of threads that looks like a change of the code."""
    before, after = write_results(tmp_path / "one"), write_results(tmp_path / "two")
    assert differences(before, after) == []
    after["provenance"] = after["provenance"] | {"threads": 8}
    assert differences(before, after) == ["threads: 2 before, 8 after"]
    other = {"model": {"name": "a <model>", "fingerprint": "1" * 64}}
    after["provenance"] = before["provenance"] | other
    assert len(differences(before, after)) == 1
    assert differences(before | {"format": "older"}, after) == []


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    """Guards against a traceback for a folder that `run` never wrote."""
    with pytest.raises(ConfigError, match="selfdraft bench run"):
        write_report([tmp_path], tmp_path)
