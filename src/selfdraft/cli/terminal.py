"""Where a command's words go: the text to stdout, everything else to stderr."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING

import typer

from selfdraft.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from selfdraft.text.text_stream import Piece

# A spinner's thread takes time from the model, so it turns slowly.
_SPINNER_HERTZ = 5


def stderr_console() -> "Console":
    """A console on stderr that prints text as it is: no markup, no guessed highlights."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def spinner(message: str, *, hidden: bool = False) -> Iterator[None]:
    """Show `message` and the seconds so far while the block runs, if stderr is a terminal."""
    if hidden or not sys.stderr.isatty():
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.elapsed:.0f} s", style="dim"),
    )
    with Progress(
        *columns,
        console=stderr_console(),
        transient=True,
        redirect_stdout=False,
        refresh_per_second=_SPINNER_HERTZ,
    ) as progress:
        progress.add_task(message, total=None)
        yield


def stream_text(texts: Iterable[str], *, quiet: bool = False) -> bool:
    """Write the texts to stdout as they come. False if the user stopped it with Ctrl-C."""
    remaining = iter(texts)
    try:
        with spinner("reading the prompt", hidden=quiet):
            head = list(islice(remaining, 1))
        for text in chain(head, remaining):
            write_out(text)
    except KeyboardInterrupt:
        return False
    return True


def write_out(text: str) -> None:
    """Write `text` to stdout, at once.

    Raises:
        ConfigError: it cannot be written there. A reader that has left is no such error.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is still in its buffer would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ConfigError(
            f"cannot write to stdout ({error.strerror}): make room there, or send it elsewhere"
        ) from error


def drafted_in_green(pieces: "Iterable[Piece]") -> Iterator[str]:
    """The texts of `pieces`, those of drafted tokens in green where stdout has colour."""
    has_color = _has_color()
    for piece in pieces:
        is_colored = has_color and piece.from_draft
        yield typer.style(piece.text, fg=typer.colors.GREEN) if is_colored else piece.text


def end_line() -> None:
    """End the text's last line if a person reads it; a file or a pipe gets the bare text."""
    if sys.stdout.isatty():
        write_out("\n")


def say(message: str) -> None:
    """Write a line to stderr."""
    print(message, file=sys.stderr, flush=True)


def write_json(document: object) -> None:
    """Write one JSON document to stdout, in ASCII, so that no terminal or pipe can spoil it."""
    write_out(json.dumps(_finite(document)) + "\n")


@contextmanager
def progress_bar(message: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal; the block calls what it gets after every step.

    It is drawn only then and has no thread of its own, so that it costs no measured time.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        console=stderr_console(),
        transient=True,
        redirect_stdout=False,
        auto_refresh=False,
    ) as progress:
        task = progress.add_task(message, total=total)
        progress.refresh()

        def advance() -> None:
            progress.advance(task)
            progress.refresh()

        yield advance


def run_counting(pieces: "Iterable[Piece]", message: str, *, hidden: bool = False) -> bool:
    """Use up the pieces while stderr, if it is a terminal, shows how many tokens there are so far.

    False if the user stopped it with Ctrl-C.
    """
    is_shown = not hidden and sys.stderr.isatty()
    num_tokens = 0
    try:
        for piece in pieces:
            num_tokens += len(piece.token_ids)
            if is_shown:
                print(f"\r{message}: {num_tokens} tokens", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        return False
    finally:
        if is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    return True


def _finite(value: object) -> object:
    """`value` with null for the infinities, which JSON does not have (logprobs of -inf)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _has_color() -> bool:
    """Whether stdout is a terminal on which colour is welcome (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
