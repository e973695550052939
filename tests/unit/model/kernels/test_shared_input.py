"""Linears computed in one call: the same numbers, and only those that belong together."""

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor, nn
from transformers import CohereConfig, PreTrainedModel

from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.kernels import int4_dot, tile_linear
from selfdraft.model.kernels.shared_input import (
    KernelLinear,
    SharedInput,
    join_shared_inputs,
    product_of,
)
from selfdraft.model.kernels.tile_linear import TileLinear
from selfdraft.model.target import Target
from selfdraft.model.weights.low_bit_linear import Int4DotLinear

needs_tiles = pytest.mark.skipif(not tile_linear.is_there(), reason="no such kernel")
needs_dots = pytest.mark.skipif(not int4_dot.is_there(), reason="no such kernel")


class FakeLinear:
    """Multiplies by a number, and counts its calls."""

    shared_input: "SharedInput[FakeLinear] | None" = None
    out_features = 64

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.calls: list[int] = []

    def multiply(self, linears: Sequence["FakeLinear"], features: Tensor) -> list[Tensor]:
        self.calls.append(len(linears))
        return [features * linear.factor for linear in linears]


def family(*factors: int) -> list[FakeLinear]:
    linears = [FakeLinear(factor) for factor in factors]
    shared_input = SharedInput(linears)
    for linear in linears:
        linear.shared_input = shared_input
    return linears


def names_of_families(model: PreTrainedModel) -> set[tuple[str, ...]]:
    """The families that are found in `model`, by the names of their members."""
    fakes = {
        part: FakeLinear(part.out_features)
        for part in model.modules()
        if isinstance(part, nn.Linear)
    }
    for part, fake in fakes.items():
        fake.out_features = part.out_features
    join_shared_inputs(model, fakes)
    named = {fakes[part]: name for name, part in model.named_modules() if part in fakes}
    found = {fake.shared_input for fake in named if fake.shared_input is not None}
    return {tuple(named[member] for member in shared_input._members) for shared_input in found}


def test_the_first_computes_for_all() -> None:
    """Guards against calls that are still one by one."""
    first, second, third = family(2, 3, 5)
    features = torch.ones(1, 4)
    for _ in range(2):
        assert [product_of(one, features)[0, 0] for one in (first, second, third)] == [2, 3, 5]
    assert (first.calls, second.calls, third.calls) == ([3, 3], [], [])


def test_what_was_made_of_other_features_is_not_taken() -> None:
    """Guards against the products of another token, or of another thread."""
    first, second, third = family(2, 3, 5)
    assert product_of(second, torch.ones(1, 4))[0, 0] == 3
    product_of(first, torch.ones(1, 4))
    assert product_of(third, torch.full((1, 4), 7.0))[0, 0] == 35
    assert (first.calls, second.calls, third.calls) == ([3], [1], [1])


def test_products_are_let_go() -> None:
    """Guards against a prompt's products that stay in memory, for each layer."""
    first, second = family(2, 3)
    features = torch.ones(1, 4)
    held = [weakref.ref(product_of(one, features)) for one in (first, second)]
    assert [ref() for ref in held] == [None, None]


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
def test_who_belongs_together_is_heard(name: str) -> None:
    """Guards against linears that are missed, or that read something else."""
    found = names_of_families(tiny_model(name))
    assert {tuple(n.rpartition(".")[2] for n in names) for names in found} == {
        ("q_proj", "k_proj", "v_proj"),
        ("gate_proj", "up_proj"),
    }
    assert len(found) == 5 * 2


def test_attention_and_mlp_do_not_belong_together() -> None:
    """Guards against work for a sublayer that a draft skips: both may read one tensor."""
    found = names_of_families(tiny_model(CohereConfig))
    assert {len(names) for names in found} == {2, 3}


def test_a_model_that_does_not_run_so_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against models that cannot be loaded any more."""
    model = tiny_model()

    def forward(*_: object, **__: object) -> None:
        raise ValueError("not one token")

    monkeypatch.setattr(type(model), "forward", forward)
    assert names_of_families(model) == set()


def test_the_model_is_not_touched() -> None:
    """Guards against a model of the user's that answers with zeros."""
    model = tiny_model()
    before = list(model.modules())
    names_of_families(model)
    assert list(model.modules()) == before


def linears_of(kind: type[KernelLinear]) -> list[KernelLinear]:
    """Three with biases and outputs that fill no block, and one without."""
    torch.manual_seed(0)
    plain = [nn.Linear(96, n, bias=n != 64).bfloat16() for n in (33, 64, 200)]
    if kind is TileLinear:
        return [TileLinear(linear) for linear in plain]
    return [
        Int4DotLinear.round(linear.weight.detach(), None if linear.bias is None else linear.bias)
        for linear in plain
    ]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(TileLinear, marks=needs_tiles), pytest.param(Int4DotLinear, marks=needs_dots)],
)
@pytest.mark.parametrize("shape", [(1, 96), (1, 5, 96), (40, 96)], ids=str)
@torch.inference_mode()
def test_a_product_has_the_same_bits_alone(kind: type[KernelLinear], shape: list[int]) -> None:
    """Contract L2, and guards against blocks of one linear that are taken for those of another."""
    features = torch.randn(shape).bfloat16()
    linears = linears_of(kind)
    alone = [linear.multiply((linear,), features)[0] for linear in linears]
    together = linears[0].multiply(linears, features)
    backwards = linears[0].multiply(linears[::-1], features)[::-1]
    for one, two, three in zip(alone, together, backwards, strict=True):
        assert one.shape == two.shape
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@needs_tiles
@needs_dots
@pytest.mark.parametrize("bits", [16, 4])
def test_a_pass_asks_once_for_each_family(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Guards against families that are found and not used."""
    target = Target(tiny_model("qwen2", dtype=torch.bfloat16))
    view = target.draft_view(DraftPlan(weight_bits=bits))
    module = tile_linear if bits == 16 else int4_dot
    kernel, calls = module._kernel(), []
    monkeypatch.setattr(module, "_kernel", lambda: lambda *a: (calls.append(a[2]), kernel(*a)))
    view.forward(target.new_cache(8), [5], ((0,),))
    assert calls == [3, 1, 2, 1] * 5 + [1]


@needs_tiles
def test_threads_that_share_a_view_do_not_mix() -> None:
    """Guards against one request's products in another's pass."""
    target = Target(tiny_model("qwen2", dtype=torch.bfloat16))

    def logits(token: int) -> Tensor:
        return target.forward(target.new_cache(8), [token], ((0,),))

    expected = [logits(token) for token in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(logits, list(range(40)) * 5))
    assert all(torch.equal(one, expected[n % 40]) for n, one in enumerate(found))


def test_what_was_changed_in_place_is_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a key of the features as they were for the query."""
    model = tiny_model()

    def forward(self: Any, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        query = self.q_proj(hidden_states)
        hidden_states.mul_(2)
        self.k_proj(hidden_states)
        self.v_proj(hidden_states)
        return self.o_proj(query), None

    monkeypatch.setattr(type(model.model.layers[0].self_attn), "forward", forward)
    found = {tuple(n.rpartition(".")[2] for n in names) for names in names_of_families(model)}
    assert found == {("k_proj", "v_proj"), ("gate_proj", "up_proj")}


@needs_tiles
@pytest.mark.parametrize("width", [64, 128])
def test_features_of_another_width_are_refused(width: int) -> None:
    """Guards against writing where there is no room."""
    linear = TileLinear(nn.Linear(96, 64).bfloat16())
    with pytest.raises(RuntimeError, match="cannot multiply"):
        linear(torch.zeros(3, width, dtype=torch.bfloat16))


@needs_tiles
def test_a_linear_that_was_converted_since_is_not_misread() -> None:
    """Guards against bits of float16 that are taken for bfloat16."""
    model = tiny_model("qwen2", dtype=torch.bfloat16)
    target = Target(model)
    model.model.layers[1].self_attn.k_proj.half()
    with pytest.raises(RuntimeError, match="torch.float16"):
        target.forward(target.new_cache(8), [5], ((0,),))
