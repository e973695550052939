"""What every test runs under: checked tensor shapes, one thread, repeatable examples."""

import sys
from pathlib import Path

import jaxtyping
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# The modules that pass tensors to each other. Those that meet the user validate by themselves and
# must be tested with wrong types, which a type checker in front of them would hide.
_CHECKED_MODULES = (
    "selfdraft.decoding",
    "selfdraft.drafting.no_drafter",
    "selfdraft.drafting.self_drafter",
    "selfdraft.model.attention",
    "selfdraft.model.kv_cache",
    "selfdraft.model.target",
    "selfdraft.model.view",
)

jaxtyping.install_import_hook(list(_CHECKED_MODULES), "runtime_types.check_types")

# Tiny matrices gain nothing from a second thread, and idle OpenMP threads fight over the cores.
torch.set_num_threads(1)

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("repeatable")
