"""Tiny models in folders, and the command run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import byte_tokenizer, tiny_model
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner, Result

from selfdraft import Engine
from selfdraft.cli.app import app

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run `selfdraft` with arguments, and perhaps with something on stdin."""

    def run_command(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner(env={"SELFDRAFT_DEBUG": None, "COLUMNS": "80"}).invoke(
            app,
            [str(argument) for argument in arguments],
            input=stdin,
            terminal_width=78,  # of help, as typer has it on a terminal of 80 columns
        )

    return run_command


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a tokenizer that has a chat template."""
    return _save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def short_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a context of 48 tokens."""
    return _save(tmp_path_factory.mktemp("models") / "short", max_position_embeddings=48)


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one matrix for the embeddings and the head."""
    return _save(tmp_path_factory.mktemp("models") / "tied", tie_word_embeddings=True)


@pytest.fixture(scope="session")
def without_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a chat template."""
    folder = _save(tmp_path_factory.mktemp("models") / "plain")
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture(scope="session")
def without_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and nothing else."""
    folder = tmp_path_factory.mktemp("models") / "mute"
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def unsupported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose layers selfdraft does not know."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    config = GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Engine:
    """The model of `tiny` through the Python API: what the command line must agree with."""
    return Engine.load(tiny)


def _save(folder: Path, **overrides: object) -> Path:
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **overrides)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
