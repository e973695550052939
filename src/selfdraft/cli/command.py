"""How a function becomes a command: options from dataclasses, errors as one line, plain help.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Size:
        num_steps: Annotated[int, typer.Option(help="Steps to take.")] = 4

    def walk(model: ModelOptions, size: Size) -> None:
        "Walk."                                     # the help text

    add_command(app, walk)                          # `walk MODEL --dtype ... --num-steps ...`

So every option is declared once, next to the code that gives it a meaning, and a command receives
records instead of twenty arguments.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, cast, get_type_hints

import typer
from typer.core import TyperCommand

from selfdraft.errors import SelfdraftError

# What one changes least comes last in a command's help.
_LAST_SECTIONS = ("Model", "Output", "Options")

EXIT_NOT_LOSSLESS = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        envvar="SELFDRAFT_DEBUG",
        help="Show tracebacks, and what the libraries underneath have to say.",
    ),
]
"""Every command has this one, under the name `verbose`."""

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON document to stdout.", rich_help_panel="Output"),
]


def new_group(name: str, description: str) -> typer.Typer:
    """A group of commands without commands yet."""
    return typer.Typer(
        name=name,
        help=description,
        no_args_is_help=True,
        rich_markup_mode=None,  # help is plain text: the same on every terminal and in the docs
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def add_command(group: typer.Typer, function: Callable[..., None]) -> None:
    """Make `function` a command of `group`, with its name and its docstring.

    A parameter annotated with a dataclass stands for all the fields of that class. A parameter or
    field named `verbose` (see `Verbose`) must be among them. A `SelfdraftError` becomes one line on
    stderr and exit code 2.
    """
    group.command(name=function.__name__, cls=_SectionedCommand)(_flatten(function))


@contextmanager
def reported_errors(*, is_verbose: bool) -> Iterator[None]:
    """Turn a `SelfdraftError` into one line on stderr and exit code 2."""
    try:
        yield
    except SelfdraftError as error:
        if is_verbose:
            traceback.print_exc()
        print_error(error)
        raise typer.Exit(EXIT_USER_ERROR) from error


def print_error(error: SelfdraftError) -> None:
    """Say on one line of stderr what is wrong and what to do."""
    print("error:", " ".join(str(error).split()), file=sys.stderr)


def _flatten(function: Callable[..., None]) -> Callable[..., None]:
    """A function of plain options that calls `function` with the records made of them."""
    hints = get_type_hints(function, include_extras=True)
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if is_dataclass(hint):
            options.extend(_field_options(cast(type, hint)))
        else:
            options.append(_option(parameter.name, hint, parameter.default))
    records = {name: cast(type, hint) for name, hint in hints.items() if is_dataclass(hint)}

    def command(**values: Any) -> None:
        with reported_errors(is_verbose=values["verbose"]):
            function(**_gather(records, values))

    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return command


def _gather(records: Mapping[str, type], values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the fields of each record taken out and the record put in."""
    arguments = dict(values)
    for name, record in records.items():
        arguments[name] = record(**{field.name: arguments.pop(field.name) for field in _of(record)})
    return arguments


def _field_options(record: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    for field in _of(record):
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if default is MISSING:
            default = inspect.Parameter.empty
        yield _option(field.name, hints[field.name], default)


def _option(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _of(record: type) -> tuple[Field[Any], ...]:
    return fields(record)


class _SectionedCommand(TyperCommand):
    """A command whose help lists its options in sections, by their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            line = param.get_help_record(ctx)
            is_argument = param.param_type_name == "argument"
            section = "Arguments" if is_argument else getattr(param, "rich_help_panel", None)
            if line is not None:
                sections.setdefault(section or "Options", []).append(line)
        for title, lines in sorted(sections.items(), key=lambda item: item[0] in _LAST_SECTIONS):
            with formatter.section(title):
                formatter.write_dl(lines)
