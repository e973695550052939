"""The results of `python -m research search` as tables on stderr."""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from selfdraft.cli.terminal import stderr_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH = 112  # a narrower terminal breaks the lines; no figure is cut


def print_strategies(rows: Sequence[dict[str, Any]]) -> None:
    """One line for each skip ratio and strategy; over several seeds, the means."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["skip_ratio"], row["strategy"]), []).append(row)
    counts = list(rows[0]["best_matchness"])
    titles = ("start", *(f"{count}" for count in counts), "held out", "skipped", "s/proposal")
    table = _table(("ratio", "strategy"), titles)
    for (skip_ratio, strategy), members in groups.items():
        numbers = [fmean(row["start_matchness"] for row in members)]
        numbers += [fmean(row["best_matchness"][count] for row in members) for count in counts]
        numbers.append(fmean(row["held_out_matchness"] for row in members))
        num_skipped = fmean(
            len(row["skip_set"]["attention"]) + len(row["skip_set"]["mlp"]) for row in members
        )
        seconds = fmean(row["seconds_per_proposal"] for row in members)
        table.add_row(
            f"{skip_ratio:.2f}",
            strategy,
            *(f"{number:.3f}" for number in numbers),
            f"{num_skipped:.0f}",
            f"{seconds:.3f}",
        )
    _console().print("best matchness by number of proposals, and on other prompts")
    _console().print(table)


def print_planted(rows: Sequence[dict[str, Any]]) -> None:
    """For each seed, what was found, and what exactly the planted sublayers are worth."""
    titles = ("found", "wrong", "matchness", "speed", "held out", "speed", "proposals", "to 95 %")
    table = _table(("seed",), (*titles, "s"))
    for row in rows:
        needed = row["proposals_to_enough"]
        table.add_row(
            str(row["seed"]),
            f"{row['num_found']} of {row['num_planted']}",
            str(row["num_wrong"]),
            *_worth(row["found"]),
            str(row["num_proposals"]),
            "never" if needed is None else str(needed),
            f"{row['seconds']:.1f}",
        )
        table.add_row("", "planted", "", *_worth(row["planted"]))
    _console().print("redundant sublayers found, and how good the planted set is; speed: predicted")
    _console().print(table)


def _worth(worth: dict[str, float]) -> tuple[str, ...]:
    return (
        f"{worth['matchness']:.3f}",
        f"{worth['predicted_speedup']:.2f}x",
        f"{worth['held_out_matchness']:.3f}",
        f"{worth['held_out_predicted_speedup']:.2f}x",
    )


def _console() -> "Console":
    console = stderr_console()
    console.width = max(console.width, _WIDTH)
    return console


def _table(left: Sequence[str], right: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in left:
        table.add_column(title, no_wrap=True)
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    return table
