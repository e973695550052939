"""Methods that leave one thing out, and nothing else."""

from pathlib import Path

import pytest
import torch
from tiny_models import make_prompt, tiny_model

from selfdraft import drafts
from selfdraft.bench.methods.ablation import no_copy_method, unpacked_method
from selfdraft.bench.methods.method import EngineMethod, Request, engine_method
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafts import Drafts
from selfdraft.engine import Engine
from selfdraft.errors import ConfigError
from selfdraft.model.kernels import tile_linear
from selfdraft.model.kernels.packing import PackedLinear

REQUEST = Request(tuple(make_prompt(6)), max_new_tokens=24)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bfloat16 model on disk, and a store of our own beside it."""
    monkeypatch.setenv("SELFDRAFT_HOME", str(tmp_path / "home"))
    tiny_model(dtype=torch.bfloat16).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine.load(folder, dtype="bfloat16", device="cpu", draft="off")


def packed_linears(method: EngineMethod) -> list[torch.nn.Module]:
    parts = method.engine.target.model.modules()
    return [part for part in parts if isinstance(part, PackedLinear)]


def test_no_copy_makes_none_and_auto_does(engine: Engine) -> None:
    """Guards against an ablation that leaves out nothing."""
    method = no_copy_method(engine)
    output = method.run(REQUEST)
    assert method.engine.target is engine.target, "the weights are loaded once"
    assert engine.target.copy_bytes == {}
    auto = engine_method("auto", engine)
    assert auto.run(REQUEST).token_ids == output.token_ids
    assert engine.target.copy_bytes.keys() == {4}


def test_methods_do_not_learn_from_each_other(engine: Engine) -> None:
    """Guards against a method that knows the text because another one wrote it just before."""
    names = ("auto", "suffix", "recycling")
    memories = {id(engine_method(name, engine).engine.drafts._memory) for name in names}
    assert len(memories) == 3


def test_a_copy_that_exists_is_not_denied(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against memory that is looked at after the copy has taken its part of it."""
    assert Drafts(engine.target, remember=False).why_no_copy() is None
    monkeypatch.setattr(drafts, "available_memory", lambda: 1)
    assert Drafts(engine.target, remember=False).why_no_copy() is None


def test_drafts_that_may_not_copy_refuse_a_plan_that_needs_one(engine: Engine) -> None:
    """Guards against a copy that is made although nobody may."""
    config = DraftConfig(weight_bits=4)
    with pytest.raises(ConfigError, match="give 16"):
        Drafts(engine.target, remember=False, may_copy=False).drafter(config)
    assert engine.target.copy_bytes == {}


def test_unpacked_is_another_model_that_writes_the_same(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Guards against a baseline that runs on the packed weights it is compared with."""
    monkeypatch.setattr(tile_linear, "_kernel", lambda: None)  # it reads weights as they are
    engine = Engine.load(folder, dtype="bfloat16", device="cpu", draft="off")
    vanilla, unpacked = engine_method("off", engine), unpacked_method(engine, folder)
    assert packed_linears(vanilla)
    assert packed_linears(unpacked) == []
    assert unpacked.run(REQUEST).token_ids == vanilla.run(REQUEST).token_ids
