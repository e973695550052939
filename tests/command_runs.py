"""A command run in this process, on a tiny model in a folder."""

from collections.abc import Callable
from pathlib import Path

import typer
from tiny_models import byte_tokenizer, tiny_model
from typer.testing import CliRunner, Result

Run = Callable[..., Result]


def runner(app: typer.Typer) -> Run:
    """Runs the commands of `app` with arguments, and perhaps with something on stdin."""

    def run_command(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner(env={"SELFDRAFT_DEBUG": None, "COLUMNS": "80"}).invoke(
            app,
            [str(argument) for argument in arguments],
            input=stdin,
            terminal_width=78,  # of help, as typer has it on a terminal of 80 columns
        )

    return run_command


def save_tiny(folder: Path, **overrides: object) -> Path:
    """Write a model and a tokenizer that has a chat template into `folder`."""
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **overrides)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
