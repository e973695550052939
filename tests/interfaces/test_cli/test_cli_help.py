"""Help: complete, the same everywhere, and there at once."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import Result

import selfdraft
from selfdraft.cli.app import app
from selfdraft.cli.reference import reference_page
from selfdraft.config import RequestConfig

Run = Callable[..., Result]


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, member in getattr(command, "commands", {}).items():
        yield from commands(member, (*path, name))


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_parameter_has_help(path: tuple[str, ...]) -> None:
    """Guards against an option that is added and not explained."""
    command = COMMANDS[path]
    assert command.help
    assert [param.name for param in command.params if not param.help] == []


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_defaults_are_those_of_the_library(command: str) -> None:
    """Guards against a default that exists twice and is changed once."""
    defaults = {param.name: param.default for param in COMMANDS[(command,)].params}
    library = {field.name: field.default for field in fields(RequestConfig)} | {"stop": []}
    shared = defaults.keys() & library.keys()
    assert shared >= library.keys() - {"logprobs"}
    assert {name: defaults[name] for name in shared} == {name: library[name] for name in shared}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_reference_is_what_the_terminal_shows(run: Run, path: tuple[str, ...]) -> None:
    """Guards docs/cli.md against a page made in another way than the help itself."""
    page = reference_page()
    assert f"## {' '.join(('selfdraft', *path))}\n" in page
    shown = run(*path, "--help").stdout
    assert f"```text\n{shown}```\n" in page
    assert run(*path, "-h").stdout == shown


def test_the_reference_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `make docs` on a wide screen, a narrow one, and one that wants colour."""
    page = reference_page()
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert reference_page() == page
    assert max(len(line) for line in page.splitlines()) <= 80


def test_help_needs_no_torch() -> None:
    """Guards the tenth of a second that help and completion take; torch alone takes seconds."""
    code = (
        "import selfdraft.cli.app, sys; print(sorted({'torch', 'transformers'} & {*sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"


def test_version_and_no_arguments(run: Run) -> None:
    """Guards the two things that people try first."""
    assert run("--version").stdout == f"selfdraft {selfdraft.__version__}\n"
    assert "generate" in run().output
