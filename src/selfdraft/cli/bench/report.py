"""`selfdraft bench report`: results as a page and as figures."""

from pathlib import Path
from typing import Annotated

import typer

from selfdraft.cli.command import Verbose
from selfdraft.cli.terminal import spinner, write_json


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Folders that `bench run` wrote. Two are compared: first before, then after.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the page and the figures go; the first folder unless given.",
            rich_help_panel="Output",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also draw the search of this trace (JSON lines, as the search writes them).",
            rich_help_panel="What",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Make a page of results, with figures as PNG and SVG beside it.

    The page is one file that needs nothing else. Its path goes to stdout, with those of the
    figures, as one line of JSON. Figures need matplotlib: pip install 'selfdraft[bench]'.

    For example:

      selfdraft bench report bench-results/before bench-results/after --out report
    """
    with spinner("drawing", hidden=verbose):
        from selfdraft.bench.report.write import write_report

        page, *figures = write_report(folders, out or folders[0], trace)
    write_json({"page": str(page), "figures": [str(path) for path in figures]})
