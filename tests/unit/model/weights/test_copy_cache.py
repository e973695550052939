"""Copies of the weights on disk: equal bits, and no file that can do harm."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors
import torch
from tiny_models import make_prompt, tiny_model
from torch import Tensor

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.errors import ConfigError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.target import Target
from selfdraft.model.weights import copy_cache, low_bit
from selfdraft.model.weights.copy_cache import CopyCache, copies_bytes, copies_folder
from selfdraft.storage import tensor_file
from selfdraft.storage.tensor_file import TensorForm

BITS = [8, 4]
NUMBERS = {"codes": torch.arange(35, dtype=torch.uint8).reshape(5, 7), "scales": torch.ones(3)}
FORMS = {name: TensorForm.of(tensor) for name, tensor in NUMBERS.items()}


@pytest.fixture(autouse=True)
def small_copies_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_cache, "_WORTH_KEEPING", 1)
    copy_cache._say_once.cache_clear()


def new_target(*, keeps_copies: bool = True, **sizes: int) -> Target:
    return Target(tiny_model(dtype=torch.bfloat16, **sizes), keeps_copies=keeps_copies)


def copy_of(target: Target, bits: int) -> dict[str, Tensor]:
    target.draft_view(DraftPlan(weight_bits=bits))
    return target._low_bit._tensors(target._low_bit.substitutes(bits))


def forbid_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, bits: int) -> None:
        pytest.fail("the weights were rounded again")

    monkeypatch.setattr(low_bit.LowBitCopies, "_make", fail)


@pytest.mark.parametrize("vocab_size", [64, 72])
@pytest.mark.parametrize("bits", BITS)
def test_a_kept_copy_has_equal_bits(
    monkeypatch: pytest.MonkeyPatch, bits: int, vocab_size: int
) -> None:
    """Guards against tensors that change places, and a head whose padding is lost."""
    first = new_target(vocab_size=vocab_size)
    made = copy_of(first, bits)
    forbid_rounding(monkeypatch)
    second = new_target(vocab_size=vocab_size)
    kept = copy_of(second, bits)
    assert made.keys() == kept.keys()
    for name, tensor in made.items():
        assert TensorForm.of(tensor) == TensorForm.of(kept[name])
        assert torch.equal(tensor, kept[name])
    views = [t.draft_view(DraftPlan(SkipSet((1,)), bits)) for t in (first, second)]
    logits = [
        view.forward(target.new_cache(4), [3], ((0,),))
        for view, target in zip(views, (first, second), strict=True)
    ]
    assert torch.equal(*logits)
    assert second.copy_bytes == {bits: second.predict_copy_bytes(bits)}


def test_packed_and_plain_weights_share_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a second file of the same bits, and a head that is rescored from nothing."""
    copy_of(new_target(), 4)
    forbid_rounding(monkeypatch)
    engine = Engine(tiny_model(dtype=torch.bfloat16), draft="off", pack=True)
    draft = DraftConfig.chain(4, skip_set=SkipSet(), weight_bits=4)
    drafted = engine.generate(make_prompt(9), draft=draft, max_new_tokens=12)
    assert drafted.token_ids == engine.generate(make_prompt(9), max_new_tokens=12).token_ids


def test_any_safetensors_library_reads_it() -> None:
    """Guards against a file under a name that it does not deserve."""
    made = copy_of(new_target(), 4)
    (file,) = copies_folder().glob("*.safetensors")
    with safetensors.safe_open(file, framework="pt") as found:
        assert set(found.keys()) == made.keys()
        assert all(torch.equal(found.get_tensor(name), made[name]) for name in made)
        assert found.metadata()["weight_bits"] == "4"


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 9)


def cut_header(file: Path) -> None:
    os.truncate(file, 20)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 16
    file.write_bytes(content)


def write_text(file: Path) -> None:
    file.write_text("[1, 2, 3]" * 100)


def write_other_tensors(file: Path) -> None:
    tensor_file.write_tensors(file, NUMBERS, {})


@pytest.mark.parametrize(
    "damage", [truncate, cut_header, empty, flip_a_bit, write_text, write_other_tensors]
)
def test_a_damaged_file_is_deleted_and_made_again(
    damage: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a draft of garbage, and a model that cannot be loaded until a file is gone."""
    made = copy_of(new_target(), 4)
    (file,) = copies_folder().glob("*.safetensors")
    damage(file)
    again = copy_of(new_target(), 4)
    assert all(torch.equal(made[name], again[name]) for name in made)
    assert "the weights are rounded again" in capsys.readouterr().err
    assert [*copies_folder().glob("[!.]*")] == [file]  # what was damaged takes no room
    forbid_rounding(monkeypatch)
    copy_of(new_target(), 4)


def test_other_weights_have_other_copies() -> None:
    """Guards against a copy that is found by the shape of a model."""
    model = tiny_model(dtype=torch.bfloat16)
    copy_of(Target(model, keeps_copies=True), 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.5)
    copy_of(Target(model, keeps_copies=True), 4)
    assert len([*copies_folder().glob("*.safetensors")]) == 2


def test_a_processor_has_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a home folder on two machines: the int4 layout follows the vector width."""
    here = CopyCache("w", is_written=True)
    here.remember(4, NUMBERS)
    assert here.recall(4, FORMS) is not None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert here.recall(4, FORMS) is None


def test_who_does_not_remember_writes_nothing() -> None:
    """Guards against files of a model that somebody only tries out, or measures."""
    for engine in (
        Engine(tiny_model(dtype=torch.bfloat16), draft="off", remember=False),
        Engine(tiny_model(dtype=torch.bfloat16), draft="off"),
    ):
        assert not copies_folder().exists()
        engine.target.draft_view(DraftPlan(weight_bits=4))
    assert len([*copies_folder().glob("*.safetensors")]) == 1


def test_small_copies_leave_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a folder full of what is made in no time."""
    monkeypatch.undo()
    copy_of(new_target(), 4)
    assert copies_bytes() == 0


@pytest.mark.parametrize("setting", ["0", " 0.0 "])
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Guards against a switch that stops the writing and goes on with what was written."""
    cache = CopyCache("w", is_written=True)
    cache.remember(4, NUMBERS)
    monkeypatch.setenv("SELFDRAFT_COPY_CACHE", setting)
    assert cache.recall(4, FORMS) is None
    cache.file(4).unlink()
    cache.remember(4, NUMBERS)
    assert not cache.file(4).exists()


@pytest.mark.parametrize("setting", ["off", "nan", "inf"])
def test_a_limit_that_is_none(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Guards against a traceback, and an auto that takes it for "no copy can be had"."""
    monkeypatch.setenv("SELFDRAFT_COPY_CACHE", setting)
    with pytest.raises(ConfigError, match="give the GiB"):
        Engine(tiny_model(dtype=torch.bfloat16))


def test_a_folder_that_cannot_be_written(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a load that fails for want of a cache, or complains each time."""
    copies_folder().write_text("a file where the folder should be")  # root may write anywhere
    for _ in range(2):
        made = copy_of(new_target(), 4)
        assert made
    assert capsys.readouterr().err.count("is not kept") == 1


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against half a file, and a disk that is filled to its last byte."""

    def fail(file: Path, *rest: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(copy_cache, "write_tensors", fail)
        copy_of(new_target(), 4)
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in copies_folder().iterdir() if path.suffix != ".lock"] == []
    with monkeypatch.context() as patch:
        patch.setattr(copy_cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
        copy_of(new_target(), 4)
    assert copies_bytes() == 0


def test_two_writers_and_readers_at_once() -> None:
    """Guards against a reader that finds half of what a writer writes."""
    cache, numbers = CopyCache("w", is_written=True), {"codes": torch.ones(2**18)}
    forms = {name: TensorForm.of(tensor) for name, tensor in numbers.items()}
    found: list[bool] = []

    def work() -> None:
        own = CopyCache("w", is_written=True)
        for _ in range(8):
            own.remember(4, numbers)
            tensors = own.recall(4, forms)
            found.append(tensors is None or torch.equal(tensors["codes"], numbers["codes"]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 32
    assert all(found)
    assert cache.recall(4, forms) is not None
    names = [path.name for path in copies_folder().iterdir()]
    assert sorted(names) == sorted([cache.file(4).name, f".{cache.file(4).name}.lock"])


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a folder that grows for ever, and one that forgets what is used each day."""
    caches = [CopyCache(name, is_written=True) for name in ("a", "b", "c")]
    numbers = {"codes": torch.zeros(2**16, dtype=torch.uint8)}
    forms = {name: TensorForm.of(tensor) for name, tensor in numbers.items()}
    for age, cache in zip((3000, 2000), caches, strict=False):
        cache.remember(4, numbers)
        then = cache.file(4).stat().st_mtime - age
        os.utime(cache.file(4), (then, then))
    damaged = caches[0].file(4).with_name("x.safetensors.damaged-1")
    damaged.write_bytes(b"0" * 2**16)
    os.utime(damaged, (1, 1))
    assert caches[0].recall(4, forms) is not None
    monkeypatch.setenv("SELFDRAFT_COPY_CACHE", str(2.5 * 2**16 / 2**30))
    caches[2].remember(4, numbers)
    assert [cache.recall(4, forms) is not None for cache in caches] == [True, False, True]
    assert not damaged.exists()
    monkeypatch.setenv("SELFDRAFT_COPY_CACHE", str(0.5 * 2**16 / 2**30))
    CopyCache("too large", is_written=True).remember(4, numbers)
    assert len([*copies_folder().glob("*.safetensors")]) == 2
