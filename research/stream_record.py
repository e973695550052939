"""What a stream has shown so far, in a file that is written anew after every prompt."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from research.stream_runner import Passage, Segment
from research.stream_summary import StreamRow, summarise_stream
from selfdraft.bench.run.result_folder import write_json_file
from selfdraft.bench.run.runner import Ending
from selfdraft.errors import ConfigError


class StreamRecord:
    """The passages of a stream and the rows that they make, with what was asked for."""

    def __init__(
        self, path: Path | None, head: dict[str, Any], segments: Sequence[Segment]
    ) -> None:
        """`head` is the part of the document that is known beforehand; without a path, no file."""
        self._path = path
        self._head = head
        self._segments = segments
        self._passages: list[Passage] = []
        self._documents: list[dict[str, Any]] = []
        self._ending: Ending | None = None

    @property
    def rows(self) -> list[StreamRow]:
        """As `summarise_stream` makes them, of the prompts so far."""
        return summarise_stream(self._segments, self._passages)

    def add(self, passages: Sequence[Passage]) -> None:
        """Keep one prompt by every draft, on disk as well."""
        self._passages += passages
        self._documents += map(asdict, passages)
        self._write()

    def finish(self, ending: Ending) -> None:
        """Note how the stream ended."""
        self._ending = ending
        if self._passages:
            self._write()

    def document(self) -> dict[str, Any]:
        """Everything but the passages. `ending` is null while the stream runs, or if it broke."""
        return self._head | {"ending": self._ending, "rows": [asdict(row) for row in self.rows]}

    def _write(self) -> None:
        if self._path is not None:
            document = self.document() | {"passages": self._documents}
            write_json_file(self._path, document, indent=None)


def require_new(path: Path) -> None:
    """Make sure that a file can be written there, and that nothing is lost by it.

    Raises:
        ConfigError: there is something already, or its folder cannot be made.
    """
    if path.exists() and not (path.is_file() and path.stat().st_size == 0):
        raise ConfigError(
            f"{path} exists: a stream cannot go on where another one stopped, because its drafts "
            "have forgotten what they learned; give another --out, or delete the file"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}): give another --out") from error
