"""The results of `selfdraft bench stream` as a table on stderr."""

from collections.abc import Sequence
from typing import Any

from selfdraft.cli.terminal import stderr_console

_WIDTH = 112  # a narrower terminal breaks the lines; no figure is cut


def print_stream(rows: Sequence[dict[str, Any]]) -> None:
    """One line for each segment and draft, then the whole stream."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("segment", "draft"):
        table.add_column(title, no_wrap=True)
    titles = ("acc.", "M", "/ off", "prefill", "search", "starts", "plans", "back in")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        acceptance, recovered = row["acceptance"], row["rounds_to_recover"]
        table.add_row(
            row["segment"] or "all",
            row["draft"],
            "-" if acceptance is None else f"{acceptance:.3f}",
            f"{row['mean_accepted_length']:.2f}",
            f"{row['speedup']:.2f}x",
            f"{row['speedup_with_prefill']:.2f}x",
            f"{row['search_share']:.1%}",
            str(row["num_restarts"]),
            str(row["num_switches"]),
            "-" if recovered is None else str(recovered),
        )
    console = stderr_console()
    console.width = max(console.width, _WIDTH)
    console.print(
        "acceptance of the model's own draft; speed over plain decoding without and with prefill; "
        "seconds between rounds over the others; restarts of the search; changes of plan; rounds "
        "until acceptance was back",
        soft_wrap=True,
    )
    console.print(table)
