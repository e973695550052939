"""Our own linear kernel: the right numbers, and a row's bits whatever its company."""

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor, nn

from selfdraft.model.kernels import tile_linear
from selfdraft.model.kernels.tile_linear import TileLinear, tile_linears
from selfdraft.model.target import Target

needs_kernel = pytest.mark.skipif(
    not tile_linear.is_there(), reason="no kernel: no C compiler at install, or no AMX"
)

# Outputs and inputs: whole blocks, a last block that overlaps by much and by little, few blocks.
SHAPES = [(64, 64), (33, 32), (63, 96), (1000, 320), (32, 4096), (4864, 896)]


def make_linear(num_outputs: int, num_inputs: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(num_outputs + num_inputs)
    return nn.Linear(num_inputs, num_outputs, bias=bias).bfloat16().requires_grad_(False)


def make_rows(num_rows: int, num_inputs: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_rows)
    return torch.randn(num_rows, num_inputs, generator=generator).bfloat16()


def tiled(linear: nn.Linear) -> TileLinear:
    twin = tile_linears(linear)[linear]
    assert isinstance(twin, TileLinear)
    return twin


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("num_rows", [1, 2, 15, 16, 17, 32, 33, 49, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_exact_up_to_the_rounding_of_the_result(
    shape: tuple[int, int], num_rows: int, bias: bool
) -> None:
    """Guards against tiles that are read from the wrong place, and outputs that nobody writes."""
    linear = make_linear(*shape, bias=bias)
    rows = make_rows(num_rows, shape[1])
    exact = nn.functional.linear(
        rows.double(), linear.weight.double(), linear.bias.double() if bias else None
    )
    # Half a step of bfloat16, and what sums in float32 add to it where terms cancel.
    torch.testing.assert_close(tiled(linear)(rows).double(), exact, rtol=2**-8, atol=2e-5)


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_has_the_same_bits_in_any_company(shape: tuple[int, int]) -> None:
    """Guards against sums that depend on how many rows there are, or where among them it stands."""
    linear = tiled(make_linear(*shape))
    rows = make_rows(70, shape[1])
    alone = torch.cat([linear(row[None]) for row in rows])
    for num_rows in (*range(1, 36), 48, 49, 63, 64, 65, 70):
        assert torch.equal(linear(rows[:num_rows]), alone[:num_rows])
    assert torch.equal(linear(rows.flip(0)), alone.flip(0))


@needs_kernel
def test_a_row_has_the_same_bits_with_any_number_of_threads() -> None:
    """Guards against sums that threads share."""
    linear, rows = tiled(make_linear(1000, 320)), make_rows(3, 320)
    before = torch.get_num_threads()
    products = []
    try:
        for num_threads in (1, 2, 3, 5):
            torch.set_num_threads(num_threads)
            products.append(linear(rows))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(product, products[0]) for product in products)


@needs_kernel
def test_what_it_cannot_take_is_the_linears_own() -> None:
    """Guards against features that leave no room in the cache, and tiles left set for others."""
    linear = make_linear(512, 8960)
    rows = make_rows(88, 8960)
    expected = linear(rows)
    twin = tiled(linear)
    twin(rows[:3])
    assert torch.equal(twin(rows), expected)
    assert torch.equal(linear(rows), expected)


@needs_kernel
def test_any_shape_and_order_of_features() -> None:
    """Guards against a batch that is lost, and rows that do not lie one behind the other."""
    linear = tiled(make_linear(64, 96))
    rows = make_rows(12, 96)
    expected = linear(rows)
    assert torch.equal(linear(rows.view(1, 3, 4, 96)), expected.view(1, 3, 4, 64))
    spread = torch.zeros(12, 192, dtype=torch.bfloat16)
    spread[:, ::2] = rows
    assert torch.equal(linear(spread[:, ::2]), expected)


@needs_kernel
def test_garbage_beside_the_rows_does_not_matter() -> None:
    """Guards against what lies in the room for rows that are not there: it may be a NaN."""
    linear, row = tiled(make_linear(64, 96)), make_rows(1, 96)
    expected = linear(row)
    linear(torch.full((16, 96), torch.nan, dtype=torch.bfloat16))
    assert torch.equal(linear(row), expected)


@needs_kernel
def test_only_what_the_kernel_can_compute_is_taken() -> None:
    """Guards against hooks and code that are lost, and inputs that fill no tile."""
    hooked, replaced, strided = (make_linear(64, 64) for _ in range(3))
    hooked.register_forward_hook(lambda *_: None)
    replaced.forward = lambda features: features  # type: ignore[method-assign, assignment]
    strided.weight = nn.Parameter(torch.ones(64, 128).bfloat16()[:, ::2], requires_grad=False)
    odd, small, wide = make_linear(64, 40), make_linear(31, 64), nn.Linear(64, 64)
    parts = nn.ModuleList([hooked, replaced, strided, odd, small, wide, nn.Conv1d(32, 32, 1)])
    assert tile_linears(parts) == {}


@needs_kernel
def test_the_model_keeps_its_parts_and_its_weights() -> None:
    """Guards against a target that changes the user's model, or copies its weights."""
    model = tiny_model("qwen2", dtype=torch.bfloat16)
    before = list(model.modules())
    twins = tile_linears(model)
    assert len(twins) == 5 * 7 + 1
    for linear, twin in twins.items():
        assert isinstance(linear, nn.Linear)
        assert isinstance(twin, TileLinear)
        assert twin.weight is linear.weight
        assert twin.bias is linear.bias
    Target.packed(model)
    assert list(model.modules()) == before


@needs_kernel
def test_weights_that_were_converted_since_are_not_misread() -> None:
    """Guards against bits of float16 that are taken for bfloat16."""
    linear, rows = make_linear(64, 96), make_rows(2, 96)
    twin = tiled(linear)
    linear.weight.data, linear.bias.data = linear.weight.data.half(), linear.bias.data.half()
    assert torch.equal(twin(rows.half()), linear(rows.half()))
    with pytest.raises(RuntimeError):
        twin(rows)


@needs_kernel
def test_a_pass_runs_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a kernel that is there and that nothing calls."""
    target = Target(tiny_model(dtype=torch.bfloat16))
    monkeypatch.setattr(TileLinear, "multiply", lambda *_: pytest.fail("called"))
    with pytest.raises(pytest.fail.Exception, match="called"):
        target.forward(target.new_cache(8), [5], ((0,),))


def test_nothing_is_taken_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against models that cannot be loaded on another CPU."""
    monkeypatch.setattr(tile_linear, "_kernel", lambda: None)
    assert not tile_linear.is_there()
    assert tile_linears(make_linear(64, 64)) == {}
