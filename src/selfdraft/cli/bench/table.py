"""The summary of a benchmark as tables on stderr."""

from typing import TYPE_CHECKING, Any

from selfdraft.cli.terminal import stderr_console

if TYPE_CHECKING:
    from rich.table import Table

BASELINES = ("transformers", "off")


def print_summary(summary: dict[str, Any]) -> None:
    """One table per task, one for all tasks, and what is to be said of each method's text."""
    console = stderr_console()
    origin = summary["provenance"]
    machine = origin["machine"]
    console.print(
        f"{origin['model']['name']}, {origin['dtype']}, {machine.get('gpu') or machine['cpu']}, "
        f"{origin['threads']} threads, torch {origin['versions']['torch']}, transformers "
        f"{origin['versions']['transformers']}",
        soft_wrap=True,
    )
    console.print("tokens per second with prefill; speedups with it, and their 95 % intervals")
    tasks = list(dict.fromkeys(c["task"] for c in summary["cells"] if c["task"] is not None))
    for task in [*tasks, None] if len(tasks) > 1 else tasks:
        cells = [c for c in summary["cells"] if c["task"] == task and c["category"] is None]
        if cells:
            title = task or "all tasks"
            console.print(_table(f"{title} ({cells[0]['num_prompts']})", cells))
    for name, method in summary["methods"].items():
        for line in _remarks(name, method):
            console.print(line, soft_wrap=True)


def _table(title: str, cells: list[dict[str, Any]]) -> "Table":
    from rich import box
    from rich.table import Table

    baselines = [b for b in BASELINES if any(b in c["speedups"] for c in cells)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    headings = ("tok/s", "decode", *(f"/ {b}" for b in baselines), "M", "acc.")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        table.add_row(
            cell["method"],
            f"{cell['total_tokens_per_second']:.1f}",
            _number(cell["decode_tokens_per_second"], ".1f"),
            *(_speedup(cell["speedups"].get(b), has_interval=b == baselines[0]) for b in baselines),
            _number(cell["mean_accepted_length"], ".2f"),
            _number(cell["acceptance_rate"], ".0%"),
        )
    return table


def _speedup(ratios: dict[str, Any] | None, *, has_interval: bool) -> str:
    if ratios is None or ratios["total"] is None:
        return "-"
    value, low, high = (ratios["total"][key] for key in ("value", "low", "high"))
    has_interval = has_interval and low is not None
    return f"{value:.2f} ({low:.2f}-{high:.2f})" if has_interval else f"{value:.2f}"


def _remarks(name: str, method: dict[str, Any]) -> list[str]:
    """Sentences about the text a method wrote, and about its answers."""
    lines = []
    for reference, identity in method["identical_to"].items():
        line = (
            f"{name}: {identity['num_same']} of {identity['num_outputs']} outputs are those of "
            f"{reference}"
        )
        ties = len(identity["divergences"]) - identity["num_real_divergences"]
        if ties:
            line += f", {ties} part at a near-tie"
        if identity["num_real_divergences"]:
            line += f", {identity['num_real_divergences']} part at no near-tie"
        lines.append(line)
    if method["is_lossless"] is False:
        lines.append(f"{name}: NOT LOSSLESS")
    for task, score in (method["score"] or {}).items():
        lines.append(f"{name}: {score['num_right']} of {score['num_scored']} right in {task}")
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
