"""A record of a search, enough to redraw it: one JSON object per line.

Every line has `event` and `seconds` (since the trace began). Events and their fields:

    window     a new text to score on: num_tokens, position
    walk       hidden states were followed through the layers: step_seconds
    proposal   a set was scored: source, attention, mlp, matchness, num_tokens, value, is_best,
                step_seconds
    switch     the draft changes: attention, mlp, weight_bits, value
    rest       the search rests: reason
    restart    acceptance dropped, or it found nothing long ago: the search starts again
    round      a round of decoding: num_drafted, num_accepted, seconds_decoding
"""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from selfdraft.errors import ConfigError


class Trace(Protocol):
    """Where events go."""

    def write(self, event: str, **fields: object) -> None:
        """Record one event."""
        ...


class NoTrace:
    """Forgets every event."""

    def write(self, event: str, **fields: object) -> None:
        """Nothing."""


class TraceFile:
    """Writes events to a file, line by line, so that an interrupted run leaves whole lines."""

    def __init__(self, path: Path) -> None:
        """Open `path` anew.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise ConfigError(
                f"cannot write the trace {path} ({error.strerror}): name another file"
            ) from error
        self._start = time.perf_counter()

    def write(self, event: str, **fields: object) -> None:
        """Write one line."""
        seconds = round(time.perf_counter() - self._start, 4)
        self._file.write(json.dumps({"event": event, "seconds": seconds} | fields) + "\n")

    def __enter__(self) -> "TraceFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
