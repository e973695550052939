"""The reference page `docs/cli.md`: what every command's `--help` says.

python -m selfdraft.cli.reference > docs/cli.md
"""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from selfdraft.cli.app import app

_WIDTH = 78  # what fits a terminal of 80 columns


def reference_page() -> str:
    """The Markdown page; the same on every machine and terminal."""
    lines = [
        "# Command line",
        "",
        "Written by `make docs` from the commands themselves; a test keeps it up to date.",
    ]
    for path, text in _help_texts(get_command(app), ("selfdraft",), parent=None):
        lines += ["", f"## {' '.join(path)}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def _help_texts(
    command: Any, path: tuple[str, ...], parent: Any
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each command's words and its help, groups before their members."""
    context = command.context_class(
        command,
        info_name=path[-1],
        parent=parent,
        terminal_width=_WIDTH,
        **command.context_settings,
    )
    yield path, command.get_help(context)
    for name, member in getattr(command, "commands", {}).items():
        yield from _help_texts(member, (*path, name), context)


if __name__ == "__main__":
    print(reference_page(), end="")
