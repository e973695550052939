"""The table of what a method gains in each category."""

from pathlib import Path

import pytest
from made_up_results import write_results

from selfdraft.cli.bench.category_table import print_categories


def test_every_category_and_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against categories of two tasks under one name, and against a lost total."""
    summary = write_results(tmp_path)
    print_categories(summary)
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    rows = {words[0]: words[1:] for words in lines if len(words) == 6}
    names = [f"spec-bench/{c}" for c in ("writing", "qa", "translation")]
    assert list(rows) == [*names, "gsm8k/all", "everything"]
    cells = [c for c in summary["cells"] if c["method"] == "auto" and c["category"] == "qa"]
    speedups, slowest = cells[0]["speedups"], cells[0]["slowest_prompts"]["off"]
    assert rows["spec-bench/qa"][1:] == [
        f"{speedups['transformers']['total']['value']:.2f}",
        f"{speedups['off']['total']['value']:.2f}",
        f"{slowest['value']:.2f}",
        str(slowest["prompt_index"]),
    ]


def test_without_the_method_there_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a traceback where somebody measures other methods."""
    print_categories(write_results(tmp_path), "suffix")
    assert capsys.readouterr().err == ""
