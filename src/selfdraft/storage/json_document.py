"""JSON files that selfdraft keeps for itself: whole, of a known format, or set aside.

A file is written beside its place and then renamed, so no process ever reads half of one. What
cannot be read, because it is damaged or of another format, is renamed and said so: its owner may
want to look at it, and no run ends because of it.
"""

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfdraft.storage.progress import first_line, say

# A list of numbers, one on each line. A text of JSON has no line breaks, so none is meant.
_NUMBERS = re.compile(r"\[\n([^\[\]{}\"]*)\n *\]")


class DamagedDocumentError(Exception):
    """A file is not what was written; callers set it aside, and no user sees this."""


def read_document(file: Path, *, format_number: int) -> dict[str, Any] | None:
    """The document in `file`; None if there is none that can be opened.

    Raises:
        DamagedDocumentError: it is no JSON object of this format.
    """
    try:
        text = file.read_bytes()
    except OSError:  # not there, or not ours to read
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedDocumentError(f"it is no JSON: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise DamagedDocumentError("it is no JSON object")
    if document.get("format") != format_number:
        raise DamagedDocumentError(
            f"its format is {document.get('format')!r} and this selfdraft reads {format_number}"
        )
    return document


def write_document(file: Path, document: Mapping[str, object], *, format_number: int) -> None:
    """Write `document` to `file`, all of it or nothing.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    text = json.dumps({"format": format_number, **document}, indent=1, allow_nan=False)
    write_text(file, _NUMBERS.sub(_on_one_line, text) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write `text` to `file`, all of it or nothing.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


def set_aside(file: Path, problem: object) -> None:
    """Rename a damaged file and say so; in a folder that cannot be written, only say so."""
    aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    try:
        file.rename(aside)
    except FileNotFoundError:  # another process was faster
        return
    except OSError:
        say(f"{file} is not used: {problem}")
        return
    say(f"{file} is not used: {problem}; it is now {aside.name}")


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"
