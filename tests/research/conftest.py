"""The experiments' commands, run in this process on a tiny model."""

from pathlib import Path

import pytest
from command_runs import Run, runner, save_tiny

from research.__main__ import app


@pytest.fixture
def run() -> Run:
    """Run `python -m research` with arguments."""
    return runner(app)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a tokenizer that has a chat template."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")
