"""`--config FILE`: a command's options from a TOML file; those of the command line go first."""

import tomllib
from pathlib import Path
from typing import Annotated

import typer


def _read(context: typer.Context, file: str | None) -> str | None:
    """Make the file's values the defaults of the command's options."""
    if file is None:
        return None
    try:
        values = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise typer.BadParameter(f"{file} is not TOML: {error}") from error
    known = {parameter.name: parameter for parameter in context.command.params}
    defaults = {name.replace("-", "_"): value for name, value in values.items()}
    for name, value in defaults.items():
        if name not in known or name == "config":
            raise typer.BadParameter(f"{file} sets {name}, which is no option of this command")
        is_list, takes_list = isinstance(value, list), getattr(known[name], "multiple", False)
        if is_list != takes_list or isinstance(value, dict):
            form = "a list" if takes_list else "one value"
            raise typer.BadParameter(f"{file} sets {name} to {value!r}: give {form}")
        if isinstance(value, bool) and not getattr(known[name], "is_flag", False):
            # It would be taken for the number 1 or 0.
            raise typer.BadParameter(f"{file} sets {name} to true or false: give its value")
    context.default_map = {**(context.default_map or {}), **defaults}
    return file


ConfigFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Take options from a TOML file, by the names they have here: `max-queue = 16`, "
        '`model = "..."`. What is given here goes first.',
        callback=_read,
        is_eager=True,
    ),
]
