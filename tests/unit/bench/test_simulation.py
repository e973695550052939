"""Predictions of passes and speedups."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model

from selfdraft.bench.model_shape import LLAMA_SIZES, ModelShape, shape_of
from selfdraft.bench.roofline import DEVICES, Device, PassKind, pass_seconds
from selfdraft.bench.simulation import Acceptances, Plan, plans_for, predict, tokens_per_round
from selfdraft.errors import ConfigError

SHAPE = next(s for s in LLAMA_SIZES if s.name == "llama 8B")
SLOW = Device(name="slow", bytes_per_second=1e9, flops_per_second=1e15)


def test_the_shape_counts_what_the_model_has(tmp_path: Path) -> None:
    """Guards against a formula that forgets a matrix."""
    model = tiny_model(attention_bias=False)
    model.save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.num_parameters == sum(m.weight.numel() for m in linears)


def test_a_config_that_says_too_little_is_named(tmp_path: Path) -> None:
    """Guards against a KeyError for a model of another kind."""
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(ConfigError, match="num_attention_heads"):
        shape_of(tmp_path)


def test_a_pass_is_its_bytes_or_its_arithmetic() -> None:
    """Guards against a roofline with only one slope."""
    one, two = (pass_seconds(SHAPE, SLOW, num_rows=n, context=1) for n in (1, 2))
    assert one == two == pytest.approx(2 * SHAPE.num_parameters / 1e9, rel=1e-3)
    busy = replace(SLOW, bytes_per_second=1e15, flops_per_second=1e9)
    one, two = (pass_seconds(SHAPE, busy, num_rows=n, context=1) for n in (1, 2))
    assert two == pytest.approx(2 * one)


def test_a_cpu_does_not_read_while_it_multiplies() -> None:
    """Guards against rows that seem free on a CPU: a check of 32 was predicted at half its time."""
    gpu = Device(name="even", bytes_per_second=2e9, flops_per_second=2e9)
    overlapped = pass_seconds(SHAPE, gpu, context=1)
    added = pass_seconds(SHAPE, replace(gpu, overlaps=False), context=1)
    assert added == pytest.approx(2 * overlapped, rel=1e-3)
    slow_memory = replace(SLOW, overlaps=False)
    gain = [
        pass_seconds(SHAPE, slow_memory, num_rows=n, context=4096)
        - pass_seconds(SHAPE, slow_memory, num_rows=n, context=1)
        for n in (1, 4)
    ]
    assert gain[1] == pytest.approx(4 * gain[0], rel=1e-2)


def test_bits_and_skips_save_what_they_leave_out() -> None:
    """Guards against a head that shrinks with skipping, or end layers that are skipped."""
    full = pass_seconds(SHAPE, SLOW, context=1)
    assert pass_seconds(SHAPE, SLOW, PassKind(weight_bits=4), context=1) == pytest.approx(
        full / 4, rel=1e-3
    )
    everything = pass_seconds(SHAPE, SLOW, PassKind(skip_ratio=1.0), context=1)
    layer = SHAPE.attention_parameters + SHAPE.mlp_parameters
    left = 2 * (2 * layer + SHAPE.head_parameters) / 1e9
    assert everything == pytest.approx(left, rel=1e-3)


@pytest.mark.parametrize(("acceptance", "chain"), [(0.0, 5), (0.5, 3), (0.9, 8), (1.0, 4)])
def test_tokens_of_a_round(acceptance: float, chain: int) -> None:
    """Guards against a formula that is off by the bonus token."""
    summed = sum(acceptance**i for i in range(chain + 1))
    assert tokens_per_round(acceptance, chain) == pytest.approx(summed)


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda d: d.name)
def test_no_plan_passes_its_ceiling_or_loses(device: Device) -> None:
    """Guards against a gain that cannot be, and a chain that should have been none."""
    for shape in LLAMA_SIZES:
        for plan in plans_for(shape, Acceptances()):
            for batch in (1, 64):
                found = predict(shape, device, plan, batch=batch)
                assert 1 <= found.speedup <= found.ceiling + 1e-9
                assert (found.chain == 0) == (found.speedup == 1)


def test_a_useless_draft_is_off() -> None:
    """Guards against drafting that never pays."""
    found = predict(SHAPE, SLOW, Plan("bad", 0.1, PassKind(skip_ratio=0.2)))
    assert (found.chain, found.speedup) == (0, 1.0)


def test_given_acceptances_replace_the_assumed_ones() -> None:
    """Guards against measured rates that are read and not used."""
    given = Acceptances.parse(["int4=0.5", "skip:0.4=0.8"])
    assert given.int4 == 0.5
    assert given.of_skipping(0.4, SHAPE) == 0.8
    assert given.of_skipping(0.2, SHAPE) == pytest.approx(0.9)
    for wrong in ("int4", "int5=0.3", "skip:a=0.3", "int4=x"):
        with pytest.raises(ConfigError, match="skip:RATIO=RATE"):
            Acceptances.parse([wrong])


def test_skipping_pays_only_in_large_models() -> None:
    """Guards against a curve of 13B models applied to small ones."""
    small = Acceptances().of_skipping(0.45, LLAMA_SIZES[0])
    large = Acceptances().of_skipping(0.45, LLAMA_SIZES[-1])
    assert small < 0.5 < 0.95 < large


def test_a_shape_needs_positive_numbers() -> None:
    """Guards against a division by zero far from its cause."""
    with pytest.raises(ConfigError, match="num_layers is 0"):
        ModelShape(
            name="none",
            num_layers=0,
            width=1,
            num_heads=1,
            num_kv_heads=1,
            head_dim=1,
            mlp_width=1,
            vocab_size=1,
        )
