"""Tiny models in folders, and the command run in this process."""

from pathlib import Path

import pytest
from command_runs import Run, runner, save_tiny
from tiny_models import tiny_model
from transformers import MambaConfig, MambaForCausalLM

from selfdraft import Engine
from selfdraft.cli.app import app


@pytest.fixture
def run() -> Run:
    """Run `selfdraft` with arguments, and perhaps with something on stdin."""
    return runner(app)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a tokenizer that has a chat template."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def short_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a context of 48 tokens."""
    return save_tiny(tmp_path_factory.mktemp("models") / "short", max_position_embeddings=48)


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one matrix for the embeddings and the head."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tied", tie_word_embeddings=True)


@pytest.fixture(scope="session")
def without_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a chat template."""
    folder = save_tiny(tmp_path_factory.mktemp("models") / "plain")
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
