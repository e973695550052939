"""Certificates on disk: what comes back is what was learned, and a wrong file does no harm."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from families import FAMILIES, PROMPT, tiny
from test_certificates import LLAMA, BiasedLayer, CountingMLP
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP
from unknown_models import FusedForCausalLM, OddForCausalLM, build

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.structure.fingerprint import fingerprint_of
from selfdraft.model.structure.probe import Probe
from selfdraft.model.target import Target


class Counter:
    """How many models were certified, and not recognised."""

    def __init__(self) -> None:
        self.num_certified = 0


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    counted, certify = Counter(), Probe.certify

    def counting(probe: Probe, attention: str | None) -> object:
        counted.num_certified += 1
        return certify(probe, attention)

    monkeypatch.setattr(Probe, "certify", counting)
    return counted


def only_file(home: Path) -> Path:
    (file,) = (home / "certificates").glob("*.json")
    return file


def model_named(name: str) -> PreTrainedModel:
    return tiny(next(family for family in FAMILIES if family.name == name))


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny(LLAMA),
        lambda: model_named("gemma3_text"),
        lambda: model_named("opt"),
        lambda: model_named("bloom"),
        lambda: model_named("mixtral"),
        lambda: model_named("granitemoeshared"),
        lambda: build(OddForCausalLM),
        lambda: build(FusedForCausalLM),
    ],
)
def test_a_model_is_certified_once(make: Callable[[], PreTrainedModel], counter: Counter) -> None:
    """Guards every kind of stub and layer against a way through the file that changes it."""
    first = Target(make())
    certified = counter.num_certified
    second = Target(make())
    assert counter.num_certified == certified > 0
    assert second.layers == first.layers
    assert second.supports_trees == first.supports_trees
    assert second.vocab_size == first.vocab_size
    rows = []
    for target in (first, second):
        cache = target.new_cache(len(PROMPT))
        target.prefill(cache, PROMPT[:-1])
        rows.append(target.forward(cache, PROMPT[-1:], ((0,),)))
    assert torch.equal(*rows)


def test_recognising_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the cost: four passes where one is enough."""
    Target(tiny(LLAMA))
    num_calls, forward = [0], LlamaMLP.forward
    model = tiny(LLAMA)
    fingerprint = fingerprint_of(model)

    def counting(mlp: LlamaMLP, x: Tensor) -> Tensor:
        num_calls[0] += 1
        return forward(mlp, x)

    monkeypatch.setattr(LlamaMLP, "forward", counting)
    Target(model, fingerprint)
    assert num_calls[0] == model.config.num_hidden_layers


def test_a_broken_twin_of_a_known_model_is_caught() -> None:
    """Guards against the certificate of an honest layer for one that adds a constant."""
    assert Target(tiny(LLAMA)).layers.eligible == (1, 2)
    model = tiny(LLAMA)
    model.model.layers[1].__class__ = BiasedLayer
    assert Target(model).layers.eligible == (2,)
    assert Target(tiny(LLAMA)).layers.eligible == (1, 2)


def test_a_stateful_twin_of_a_known_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the text: a certificate must not let in a state that cannot be rolled back, neither
    in another class nor in the same class with another method.
    """
    Target(tiny(LLAMA))
    model = tiny(LLAMA)
    model.model.layers[1].mlp.__class__ = CountingMLP
    model.model.layers[1].mlp.register_buffer("num_calls", torch.zeros(()))
    with pytest.raises(UnsupportedModelError, match="other logits"):
        Target(model)

    model, forward, calls = tiny(LLAMA), LlamaMLP.forward, []

    def louder(mlp: LlamaMLP, x: Tensor) -> Tensor:
        calls.append(1)
        return forward(mlp, x) * (1 + 0.1 * len(calls))

    monkeypatch.setattr(LlamaMLP, "forward", louder)
    with pytest.raises(UnsupportedModelError, match="other logits"):
        Target(model)


def test_weights_that_the_fingerprint_misses_are_noticed(counter: Counter) -> None:
    """Guards against other weights where no sample is taken: the one pass reads them all."""
    honest = tiny(LLAMA)
    fingerprint = fingerprint_of(honest)
    Target(honest, fingerprint)
    other = tiny(LLAMA)
    other.model.layers[1].mlp.down_proj.weight.data.neg_()
    Target(other, fingerprint)
    assert counter.num_certified == 2


def test_other_weights_are_certified_anew(counter: Counter) -> None:
    """Guards against a certificate that outlives a training run."""
    Target(tiny(LLAMA))
    other = tiny(LLAMA)
    other.model.layers[1].mlp.down_proj.weight.data[0, 0] += 1
    Target(other)
    assert counter.num_certified == 2


def test_a_hooked_model_is_certified_every_time(counter: Counter, own_home: Path) -> None:
    """Guards against a certificate for what a hook may do."""
    for _ in range(2):
        model = tiny(LLAMA)
        model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
        Target(model)
    assert counter.num_certified == 2
    assert not (own_home / "certificates").exists()


def test_recertifying_can_be_asked_for(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the way out for a user who has doubts."""
    Target(tiny(LLAMA))
    monkeypatch.setenv("SELFDRAFT_RECERTIFY", "1")
    Target(tiny(LLAMA))
    assert counter.num_certified == 2


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


def a_list(file: Path) -> None:
    file.write_text("[]")


def of_the_future(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))


def edited(file: Path) -> None:
    """A layer that always runs, said to be skippable."""
    document = json.loads(file.read_text())
    document["certificate"]["layers"][0]["is_skippable_whole"] = True
    file.write_text(json.dumps(document))


def empty(file: Path) -> None:
    file.write_text(json.dumps({"format": 1, "fingerprint": None}))


@pytest.mark.parametrize("damage", [truncated, not_text, a_list, of_the_future, edited, empty])
def test_a_damaged_file_is_set_aside(
    damage: Callable[[Path], None],
    counter: Counter,
    own_home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against a crash, and against belief in what is there."""
    expected = Target(tiny(LLAMA)).layers
    file = only_file(own_home)
    damage(file)
    assert Target(tiny(LLAMA)).layers == expected
    assert counter.num_certified == 2
    assert "is not used" in capsys.readouterr().err
    assert len(list(file.parent.glob("*.damaged-*"))) == 1
    assert Target(tiny(LLAMA)).layers == expected
    assert counter.num_certified == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("obstacle", ["a file", "an error"])
def test_a_home_that_cannot_be_written_is_no_error(
    obstacle: str, own_home: Path, monkeypatch: pytest.MonkeyPatch, counter: Counter
) -> None:
    """Guards a read-only cache: a model loads there as well as elsewhere."""
    if obstacle == "a file":
        (own_home / "certificates").write_text("in the way")
    else:
        monkeypatch.setattr(Path, "write_text", refuse)
    for _ in range(2):
        Target(tiny(LLAMA))
    assert counter.num_certified == 2


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "read-only")


def _load(home: str) -> tuple[int, ...]:
    os.environ["SELFDRAFT_HOME"] = home
    torch.set_num_threads(1)
    return Target(tiny(LLAMA)).layers.eligible


@pytest.mark.slow
def test_two_processes_at_once(own_home: Path) -> None:
    """Guards against half a file, which a second process reads while the first writes."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_load, [str(own_home)] * 6)
    assert set(found) == {(1, 2)}
    assert [file.suffix for file in (own_home / "certificates").iterdir()] == [".json"]
