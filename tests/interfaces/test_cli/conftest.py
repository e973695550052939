"""Tiny models in folders, and the command run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import byte_tokenizer, tiny_model
from transformers import MambaConfig, MambaForCausalLM
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
    """A model that keeps a recurrent state, which nothing can roll back."""
    folder = tmp_path_factory.mktemp("models") / "mamba"
    config = MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2)
    MambaForCausalLM(config).save_pretrained(folder)
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
