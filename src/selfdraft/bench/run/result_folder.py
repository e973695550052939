"""A folder of results: what was asked for, and each measurement as soon as it is made.

manifest.json        arguments and provenance; says whether a second call may go on here
measurements.jsonl   one measurement a line, appended
summary.json         made from the two when a run ends
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfdraft.bench.run.measurement import Measurement
from selfdraft.errors import ConfigError

# 1 had another fingerprint of the model: of the names and sizes of its files.
FORMAT = "selfdraft-bench/2"

MANIFEST = "manifest.json"
MEASUREMENTS = "measurements.jsonl"
SUMMARY = "summary.json"

# What may differ between the calls that fill one folder.
_PER_CALL = ("date", "command")


class ResultFolder:
    """Results of one set of arguments, on one machine, with one version of the code."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        """Read what is in the folder; none is made before `begin`.

        Raises:
            ConfigError: the folder belongs to other arguments or another provenance, or cannot be
                read.
        """
        self.path = path
        self.manifest = {"format": FORMAT} | manifest
        with _named_errors(path):
            names = [file.name for file in path.iterdir()] if path.exists() else []
            if MANIFEST in names:
                self._require_same(read_json(path / MANIFEST))
            elif MEASUREMENTS in names:
                raise ConfigError(
                    f"{path} has measurements without a {MANIFEST}, so nobody knows of what: give "
                    "another --out"
                )
            _cut_half_line(path / MEASUREMENTS)
            self.measurements = read_lines(path / MEASUREMENTS)

    def begin(self) -> None:
        """Make the folder, unless it is there: measuring begins, so that arguments were right.

        Raises:
            ConfigError: it cannot be written.
        """
        with _named_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json_file(self.path / MANIFEST, self.manifest)

    def add(self, measurement: Measurement) -> None:
        """Keep a measurement, on disk as well."""
        self.measurements.append(measurement)
        with (self.path / MEASUREMENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(measurement.as_dict()) + "\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Replace the summary."""
        write_json_file(self.path / SUMMARY, summary)

    def _require_same(self, found: dict[str, Any]) -> None:
        for part in ("format", "arguments", "provenance"):
            theirs, ours = _flat(part, found.get(part)), _flat(part, self.manifest[part])
            differing = sorted(
                name
                for name in theirs.keys() | ours.keys()
                if theirs.get(name) != ours.get(name) and name.split(".")[-1] not in _PER_CALL
            )
            if differing:
                name = differing[0]
                others = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
                raise ConfigError(
                    f"{self.path} has results with {name} {theirs.get(name)!r}, this run has "
                    f"{ours.get(name)!r}{others}: they must not be mixed; give another --out, or "
                    "delete the folder"
                )
        self.manifest = found


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """What the system says of a folder, with the remedy."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot use {path} ({error.strerror}): give another --out") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ConfigError: there is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): run `selfdraft bench run`") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no JSON object: run `selfdraft bench run` again")
    return document


def read_lines(path: Path) -> list[Measurement]:
    """The measurements of a file, in their order; none if there is no file.

    Raises:
        ConfigError: a line is damaged.
    """
    measurements = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            measurements.append(Measurement.from_dict(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}, line {number} is damaged: delete the line") from error
    return measurements


def write_json_file(path: Path, document: dict[str, Any], *, indent: int | None = 1) -> None:
    """Write a JSON object so that a reader finds the old file or the new one, never half of it."""
    draft = path.with_suffix(".partial")
    draft.write_text(json.dumps(document, indent=indent) + "\n", encoding="utf-8")
    draft.replace(path)


def _cut_half_line(path: Path) -> None:
    """Take away a last line that a killed process left unfinished."""
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    if end < len(content):
        path.write_bytes(content[:end])


def _flat(name: str, value: object) -> dict[str, object]:
    """Nested objects as one level: `{"provenance.versions.torch": ...}`."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, item in value.items() for k, v in _flat(f"{name}.{key}", item).items()}
