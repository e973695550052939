"""The results of `python -m research stream` as a table on stderr."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfdraft.cli.terminal import stderr_console

if TYPE_CHECKING:
    from research.stream_summary import StreamRow

_WIDTH = 132  # a narrower terminal breaks the lines; no figure is cut


def print_stream(rows: "Sequence[StreamRow]") -> None:
    """One line for each segment and draft, then the whole stream."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("segment", "draft"):
        table.add_column(title, no_wrap=True)
    titles = ("acc.", "M", "/ off", "prefill", "search", "starts", "plans", "back in", "at", "same")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.segment or "all",
            row.draft,
            _share(row.acceptance),
            f"{row.mean_accepted_length:.2f}",
            f"{row.speedup:.2f}x",
            f"{row.speedup_with_prefill:.2f}x",
            f"{row.search_share:.1%}",
            str(row.num_restarts),
            str(row.num_switches),
            _way_back(row),
            _share(row.later_acceptance),
            f"{row.num_prompts - row.num_different}/{row.num_prompts}",
        )
    console = stderr_console()
    console.width = max(console.width, _WIDTH)
    console.print(
        "acceptance of the model's own draft; speed over plain decoding without and with prefill; "
        "seconds between rounds over the others; restarts of the search; changes of plan; rounds "
        "until acceptance was back, and its level then; outputs that are those of plain decoding",
        soft_wrap=True,
    )
    console.print(table)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _way_back(row: "StreamRow") -> str:
    """`12`, `12 lower`, or the reason why there is no number."""
    if row.recovery is None or row.acceptance is None:
        return "-"
    if row.rounds_to_recover is None:
        return row.recovery
    return (
        f"{row.rounds_to_recover} lower" if row.recovery == "lower" else f"{row.rounds_to_recover}"
    )
