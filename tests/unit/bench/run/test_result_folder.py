"""Folders of results that several calls fill."""

import json
from pathlib import Path
from typing import Any

import pytest
from bench_doubles import measurement

from selfdraft.bench.run.result_folder import ResultFolder
from selfdraft.errors import ConfigError


def manifest(**arguments: Any) -> dict[str, Any]:
    origin = {"date": "today", "command": ["selfdraft"], "commit": "abc", "versions": {"torch": 1}}
    return {"arguments": {"limit": 3} | arguments, "provenance": origin}


def begun(path: Path, **arguments: Any) -> ResultFolder:
    folder = ResultFolder(path, manifest(**arguments))
    folder.begin()
    return folder


def test_nothing_is_there_before_it_is_begun(tmp_path: Path) -> None:
    """Guards against an empty folder left by a wrong argument, which refuses the right one."""
    path = tmp_path / "results"
    ResultFolder(path, manifest())
    assert not path.exists()
    begun(path)
    assert json.loads((path / "manifest.json").read_text())["arguments"] == {"limit": 3}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Guards against finding out after the models were loaded, or against a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use .*another --out"):
        ResultFolder(tmp_path / "file", manifest())


def test_a_second_call_finds_what_the_first_measured(tmp_path: Path) -> None:
    """Guards against measurements that are lost, or change on their way to disk and back."""
    first = begun(tmp_path)
    first.add(measurement())
    first.add(measurement(method="swift", peak_bytes=None))
    again = manifest()
    again["provenance"] |= {"date": "tomorrow", "command": ["selfdraft", "--verbose"]}
    assert ResultFolder(tmp_path, again).measurements == first.measurements


def test_a_line_that_was_cut_is_measured_again(tmp_path: Path) -> None:
    """Guards against a killed process whose half line spoils all that comes after it."""
    folder = begun(tmp_path)
    folder.add(measurement())
    with (tmp_path / "measurements.jsonl").open("a") as file:
        file.write('{"task": "t", "pro')
    resumed = ResultFolder(tmp_path, manifest())
    resumed.add(measurement(method="swift"))
    assert [m.method for m in ResultFolder(tmp_path, manifest()).measurements] == ["off", "swift"]


def test_other_arguments_are_refused(tmp_path: Path) -> None:
    """Guards against results of two kinds in one folder."""
    begun(tmp_path)
    with pytest.raises(ConfigError, match=r"arguments.limit 3, this run has 4.*another --out"):
        ResultFolder(tmp_path, manifest(limit=4))


def test_another_version_is_refused(tmp_path: Path) -> None:
    """Guards against half of the results being made by other code."""
    begun(tmp_path)
    newer = manifest()
    newer["provenance"]["versions"] = {"torch": 2}
    with pytest.raises(ConfigError, match=r"provenance.versions.torch 1, this run has 2"):
        ResultFolder(tmp_path, newer)


def test_a_folder_of_an_older_format_is_not_gone_on_with(tmp_path: Path) -> None:
    """Guards against one model under two fingerprints, which would look like two models."""
    begun(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": "selfdraft-bench/1"}))
    with pytest.raises(ConfigError, match=r"format 'selfdraft-bench/1', this run has .*/2'"):
        ResultFolder(tmp_path, manifest())


def test_later_fields_do_not_hurt(tmp_path: Path) -> None:
    """Guards against results that only the version that wrote them can read."""
    folder = begun(tmp_path)
    record = measurement().as_dict() | {"new": 1}
    (tmp_path / "measurements.jsonl").write_text(json.dumps(record) + "\n")
    assert ResultFolder(folder.path, manifest()).measurements == [measurement()]
