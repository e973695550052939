"""`selfdraft pull`: fetch a model now, so that later commands start at once."""

from pathlib import Path
from typing import Annotated

import typer

from selfdraft.cli.command import Verbose
from selfdraft.cli.options import DeviceName, DtypeName, ModelName
from selfdraft.cli.quiet import quiet_libraries
from selfdraft.cli.terminal import spinner, write_json


def pull(
    model: ModelName,
    dtype: DtypeName = "auto",
    device: DeviceName = "auto",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Write a JSON document with the folder and its size.",
            rich_help_panel="Output",
        ),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Fetch a model now, so that it loads at once later.

    It is downloaded and converted if it has to be, which the other commands do as well. The name
    of its folder goes to stdout; transformers loads it, too. A GGUF file is converted for one
    precision, so give the --dtype and --device of later.

    For example:

      selfdraft pull smollm2-135m
    """
    with spinner("starting torch", hidden=verbose):
        from selfdraft.model.loading import load as loading
    with quiet_libraries(is_verbose=verbose):
        folder = loading.pull(model, dtype=dtype, device=device)
    if as_json:
        write_json({"model": model, "folder": str(folder), "num_bytes": _num_bytes(folder)})
    else:
        print(folder)


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
