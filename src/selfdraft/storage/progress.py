"""What loading a model says while it works: always on stderr, because stdout is for the text.

A library should be quiet, so only waits of seconds are announced: a download, a conversion, another
process that does it, hashing a big file. Loading what is already in the cache says nothing.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import IO

from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
)
from rich.console import Console
from rich.progress import Progress
from transformers.utils import logging

_BLOCK = 4 * 1024**2  # bytes
_WORTH_A_BAR = 512 * 1024**2  # bytes; what is smaller is read in less than a second


def say(message: str) -> None:
    """Write one line to stderr."""
    print(f"selfdraft: {message}", file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, cut short: transformers and torch write paragraphs."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shorten(lines[0], width=160, placeholder=" ...")


def read_blocks(stream: IO[bytes], num_bytes: int, label: str) -> Iterator[bytes]:
    """What `stream` holds, in blocks, with a progress bar on stderr if it is large."""
    is_short = num_bytes < _WORTH_A_BAR
    with Progress(console=Console(stderr=True), disable=is_short) as progress:
        task = progress.add_task(label, total=num_bytes)
        while block := stream.read(_BLOCK):
            yield block
            progress.advance(task, len(block))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the progress bars of transformers, which are switched for the whole process."""
    was_enabled = logging.is_progress_bar_enabled()
    was_hub_disabled = are_progress_bars_disabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
        if was_hub_disabled:
            disable_progress_bars()
