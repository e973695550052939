"""The command `selfdraft`: gathers its commands, and nothing else."""

import io
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from selfdraft.cli.bench.commands import bench
from selfdraft.cli.chat.command import chat
from selfdraft.cli.check import check
from selfdraft.cli.command import add_command, new_group
from selfdraft.cli.cores import keep_threads_awake
from selfdraft.cli.generate import generate
from selfdraft.cli.inspect.command import inspect
from selfdraft.cli.pull import pull
from selfdraft.cli.search import search
from selfdraft.cli.serve import serve

_DESCRIPTION = """Faster text from Hugging Face language models, with exactly the same output.

The draft is the model itself made cheaper: weights of 4 bits, sublayers skipped, the text so
far. The full model checks every token. Start with:

  selfdraft generate smollm2-135m "Why is the sky blue?"
"""

app = new_group("selfdraft", _DESCRIPTION)
for command in (generate, chat, serve, pull, inspect, check, search):
    add_command(app, command)
app.add_typer(bench)


def main() -> None:
    """The console script `selfdraft`."""
    start(app)


def start(commands: typer.Typer) -> None:
    """Run `commands` as a program: threads stay awake, and no stream is missing."""
    keep_threads_awake()
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode is no reason to stop
    commands()


def _open_what_is_closed() -> None:
    """Some supervisors start programs with closed streams, and Python then has None for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  # while we run
            setattr(sys, name, stream)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"selfdraft {version('selfdraft')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and leave.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass
