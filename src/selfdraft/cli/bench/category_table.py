"""What one method gains in each category, and where it gains least: a table on stderr."""

from typing import TYPE_CHECKING, Any

from selfdraft.cli.bench.table import BASELINES
from selfdraft.cli.terminal import stderr_console

if TYPE_CHECKING:
    from rich.table import Table


def print_categories(summary: dict[str, Any], method: str = "auto") -> None:
    """Speedups of `method` over the baselines by category; nothing if it was not measured."""
    cells = [c for c in summary["cells"] if c["method"] == method]
    baselines = [b for b in BASELINES if any(b in c["speedups"] for c in cells) and b != method]
    if not baselines:
        return
    console = stderr_console()
    console.print(_table(method, _in_order(cells), baselines))


def _in_order(cells: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The categories with their names, and everything as the last row."""
    tasks = dict.fromkeys(c["task"] for c in cells if c["task"])
    rows = [
        (c["category"] if len(tasks) == 1 else f"{c['task']}/{c['category']}", c)
        for c in cells
        if c["category"] is not None
    ]
    return rows + [("everything", c) for c in cells if c["task"] is None]


def _table(method: str, rows: list[tuple[str, dict[str, Any]]], baselines: list[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(method, no_wrap=True)
    headings = [
        "prompts",
        *(f"/ {b}" for b in baselines),
        f"least / {baselines[-1]}",
        "in prompt",
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for title, cell in rows:
        table.add_row(
            title,
            str(cell["num_prompts"]),
            *(_value(cell["speedups"][b]["total"]) for b in baselines),
            *_slowest(cell["slowest_prompts"][baselines[-1]]),
        )
    return table


def _value(ratio: dict[str, Any] | None) -> str:
    return "-" if ratio is None else f"{ratio['value']:.2f}"


def _slowest(prompt: dict[str, Any] | None) -> tuple[str, str]:
    return ("-", "-") if prompt is None else (_value(prompt), str(prompt["prompt_index"]))
