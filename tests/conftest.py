"""What every test runs under: checked tensor shapes, one thread, repeatable examples."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# The modules that pass tensors to each other. Those that meet the user validate by themselves and
# must be tested with wrong types, which a type checker in front of them would hide.
_CHECKED_MODULES = (
    "selfdraft.decoding",
    "selfdraft.drafting.no_drafter",
    "selfdraft.drafting.self_drafter",
    "selfdraft.model.attention.interface",
    "selfdraft.model.cache.kv_cache",
    "selfdraft.model.target",
    "selfdraft.model.view",
)

jaxtyping.install_import_hook(list(_CHECKED_MODULES), "runtime_types.check_types")

# What is learned of a model is kept in the cache folder. Tests must neither write to the user's nor
# be helped by what is there, but converting the default model again would take 15 s: its folders
# are linked. Set here, before any test module looks at the environment.
from selfdraft.storage.model_cache import cache_home  # noqa: E402

_USERS_HOME = cache_home()
_TESTS_HOME = Path(tempfile.mkdtemp(prefix="selfdraft-tests-"))
atexit.register(shutil.rmtree, _TESTS_HOME, ignore_errors=True)


_SHARED_FOLDERS = ("models", "downloads")


for _name in _SHARED_FOLDERS:
    if (_USERS_HOME / _name).is_dir():
        (_TESTS_HOME / _name).symlink_to(_USERS_HOME / _name)
    else:  # a fresh machine: what one test converts serves the others
        (_TESTS_HOME / _name).mkdir()
os.environ["SELFDRAFT_HOME"] = str(_TESTS_HOME)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for each test, so that none depends on what another has learned."""
    home = tmp_path_factory.mktemp("home")
    for name in _SHARED_FOLDERS:
        (home / name).symlink_to(_TESTS_HOME / name)
    monkeypatch.setenv("SELFDRAFT_HOME", str(home))
    return home


# Tiny matrices gain nothing from a second thread, and idle OpenMP threads fight over the cores.
torch.set_num_threads(1)

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("repeatable")
