"""Drafts with weights in few bits: what they compute, what they share, what they cost."""

import functools
import threading

import pytest
import torch
from tiny_models import ELIGIBLE, VOCAB_SIZE, make_prompt, tiny_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.errors import ConfigError, UnsupportedModelError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.kernels import int4_dot
from selfdraft.model.kernels.rounding import GROUP, round_to_4_bits, round_to_8_bits
from selfdraft.model.target import Target
from selfdraft.model.weights.dense_weight import dense_weight
from selfdraft.model.weights.low_bit_linear import (
    Int4DotLinear,
    Int4Linear,
    Int8Linear,
    RescoredHead,
    linear_kind,
)

BITS = [8, 4]
KINDS = {8: Int8Linear, 4: Int4Linear}


needs_kernel = pytest.mark.skipif(
    not int4_dot.is_there(), reason="no kernel: no C compiler at install, or no AVX512-VNNI"
)


def matrix(rows: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator).to(dtype)


@functools.cache
def target() -> Target:
    return Target(tiny_model(dtype=torch.bfloat16))


def gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=64, n_embd=64, n_layer=4, n_head=4,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.01), (4, 0.1)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(96, 64), (50, 32), (17000, 96)], ids=str)
def test_a_rounded_linear_is_nearly_the_linear(
    bits: int, tolerance: float, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    """Guards against codes in the kernel's wrong order, rows padded for the kernel that show, and
    pieces that are put together wrongly.
    """
    weight, bias = matrix(*shape, dtype), matrix(1, shape[0])[0].to(dtype)
    features = matrix(3, shape[1], dtype, seed=1)[None]
    expected = nn.functional.linear(features.float(), weight.float(), bias.float())
    found = KINDS[bits].round(weight, bias)(features)
    assert found.shape == expected.shape
    assert found.dtype == dtype
    assert float((found - expected).norm() / expected.norm()) < tolerance + 0.01


@needs_kernel
@pytest.mark.parametrize("shape", [(96, 64), (50, 32), (17, 9600), (17000, 96)], ids=str)
def test_our_kernel_computes_what_torchs_does(shape: tuple[int, int]) -> None:
    """Guards against blocks in the wrong order, a sum of codes that overflows, and rows that run
    into each other; what is left is the rounding of the features to 8 bits.
    """
    weight, bias = matrix(*shape, torch.bfloat16), matrix(1, shape[0])[0].bfloat16()
    features = matrix(3, shape[1], torch.bfloat16, seed=1)[None]
    features[0, 1] *= 1000
    features[0, 2, :32] = 0  # a group without a largest feature
    theirs = Int4Linear.round(weight, bias)(features).float()
    ours = Int4DotLinear.round(weight, bias)(features)
    assert ours.dtype == torch.bfloat16
    difference = (ours.float() - theirs).norm(dim=-1) / theirs.norm(dim=-1)
    assert float(difference.max()) < 0.015


@needs_kernel
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_our_kernel_keeps_its_bits_with_threads(num_threads: int) -> None:
    """Guards against threads that share what only one of them may write."""
    linear = Int4DotLinear.round(matrix(4000, 96, torch.bfloat16), None)
    features = matrix(2, 96, torch.bfloat16, seed=1)
    expected, before = linear(features), torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        assert all(torch.equal(linear(features), expected) for _ in range(20))
    finally:
        torch.set_num_threads(before)


@needs_kernel
def test_our_kernel_reads_nothing_that_is_no_row() -> None:
    """Guards against reading memory of others where torch's kernel would raise an error."""
    linear = Int4DotLinear.round(matrix(32, 64, torch.bfloat16), None)
    for rows in (matrix(1, 32, torch.bfloat16), matrix(1, 64), matrix(1, 64).to("meta")):
        with pytest.raises(RuntimeError, match="cannot multiply"):
            linear(rows)


def test_without_our_kernel_torchs_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a machine without a compiler that cannot draft in 4 bits."""
    monkeypatch.setattr(int4_dot, "_kernel", lambda: None)
    assert linear_kind(4, torch.bfloat16) is Int4Linear
    engine = Engine(tiny_model(dtype=torch.bfloat16), draft="off")
    expected = engine.generate(make_prompt(9), max_new_tokens=12).token_ids
    draft = DraftConfig.chain(4, skip_set=SkipSet(), weight_bits=4)
    assert engine.generate(make_prompt(9), draft=draft, max_new_tokens=12).token_ids == expected


def test_other_precisions_run_by_torchs_kernel() -> None:
    """Guards against features that our kernel would read as bfloat16."""
    assert linear_kind(4, torch.float32) is linear_kind(4, torch.float16) is Int4Linear


def test_four_bits_find_the_grid_of_four_bits() -> None:
    """Guards against a fit that is worse than what a weight with 16 values allows."""
    codes = torch.randint(0, 16, (64, 4, GROUP), generator=torch.Generator().manual_seed(0))
    codes[..., 0], codes[..., 1] = 0, 15
    weight = (codes * 0.25 - 1.5).reshape(64, -1)
    found, scales_and_zeros = round_to_4_bits(weight)
    assert torch.equal(found, codes.reshape(64, -1).int())
    assert torch.equal(scales_and_zeros[..., 0], torch.full((4, 64), 0.25))
    assert torch.equal(scales_and_zeros[..., 1], torch.full((4, 64), 0.5))


def test_weights_that_are_all_equal() -> None:
    """Guards against a division by a range of zero."""
    for value in (0.0, 1.5):
        weight = torch.full((16, 64), value)
        _, scales_and_zeros = round_to_4_bits(weight)
        assert bool(scales_and_zeros.isfinite().all())
        assert bool(round_to_8_bits(weight).scales.isfinite().all())
        for kind in KINDS.values():
            product = kind.round(weight, None)(torch.ones(1, 64))
            torch.testing.assert_close(product, torch.full((1, 16), 64 * value), rtol=0.01, atol=0)


def test_the_best_tokens_have_the_targets_logits() -> None:
    """Guards against a head whose rounding decides between the likeliest tokens."""
    weight, bias, features = matrix(200, 64), matrix(1, 200, seed=1)[0], matrix(3, 64, seed=2)
    rough = Int4Linear.round(weight, bias)
    exact = nn.functional.linear(features, weight, bias)
    found = RescoredHead(rough, weight)(features[None])[0]
    best = rough(features).topk(16).indices
    torch.testing.assert_close(found.gather(1, best), exact.gather(1, best))
    assert torch.equal(found.argmax(dim=1), exact.argmax(dim=1))
    others = found.scatter(1, best, 0)
    assert torch.equal(others, rough(features).scatter(1, best, 0))


@pytest.mark.parametrize("bits", BITS)
def test_the_text_is_the_same(bits: int) -> None:
    """Guards against a copy that reaches the target, or keys of a draft that stay in the cache."""
    engine = Engine(tiny_model(dtype=torch.bfloat16), draft="off")
    expected = engine.generate(make_prompt(9), max_new_tokens=12)
    for skip_set in (SkipSet((1,), (2,)), SkipSet(ELIGIBLE, ELIGIBLE)):
        draft = DraftConfig.chain(4, skip_set=skip_set, weight_bits=bits)
        found = engine.generate(make_prompt(9), draft=draft, max_new_tokens=12)
        assert found.token_ids == expected.token_ids


@pytest.mark.parametrize("make", [lambda: tiny_model(dtype=torch.bfloat16), tiny_model, gpt2])
def test_eight_bits_are_accepted(make: object) -> None:
    """Guards against a copy that computes something else, for linears of either orientation."""
    engine = Engine(make())
    draft = DraftConfig.chain(4, skip_set=SkipSet(), weight_bits=8)
    stats = engine.generate(make_prompt(9), draft=draft, max_new_tokens=24).stats
    assert stats.acceptance_rate > 0.8


def test_a_draft_is_one_row_and_promises_no_bits() -> None:
    """Guards against padding to two rows, which only the target needs."""
    view = target().draft_view(DraftPlan(weight_bits=4))
    assert target().is_bit_exact
    assert not view.is_bit_exact
    assert view._min_rows == 1


@pytest.mark.parametrize("bits", BITS)
def test_every_linear_has_a_copy_and_drafts_share_it(bits: int) -> None:
    """Guards against a head that is forgotten, and against a copy for each skip set."""
    views = [
        target().draft_view(DraftPlan(skip_set, bits))
        for skip_set in (SkipSet(), SkipSet((1,), (2,)))
    ]
    whole, part = ({id(m): m for m in view._module.modules()} for view in views)
    assert not any(isinstance(m, nn.Linear) for m in whole.values())
    copied = {key for key, m in part.items() if isinstance(m, linear_kind(bits, torch.bfloat16))}
    assert len(copied) == 7 * 5 + 1 - 4 - 3
    assert copied <= whole.keys()


@pytest.mark.parametrize("bits", BITS)
def test_bytes_are_known_before(bits: int) -> None:
    """Guards against a limit that is checked against another number than what is allocated."""
    own = Target(tiny_model(dtype=torch.bfloat16))
    predicted = own.predict_copy_bytes(bits)
    assert own.copy_bytes == {}
    own.draft_view(DraftPlan(weight_bits=bits))
    assert own.copy_bytes == {bits: predicted}
    model_bytes = sum(parameter.nbytes for parameter in own.model.parameters())
    assert predicted <= model_bytes * {8: 0.51, 4: 0.32}[bits]
    assert own.predict_copy_bytes(16) == 0


def test_memory_limit() -> None:
    """Guards against a copy that is made although it was forbidden, or refused where it fits."""
    model = tiny_model(dtype=torch.bfloat16)
    needed = Target(model).predict_copy_bytes(4)
    for limit in (0, needed - 1):
        tight = Target(model, draft_memory_limit=limit)
        with pytest.raises(ConfigError, match=f"draft_memory_limit is {limit:,}"):
            tight.draft_view(DraftPlan(weight_bits=4))
        assert tight.copy_bytes == {}
        tight.draft_view(DraftPlan())
    enough = Target(model, draft_memory_limit=needed)
    enough.draft_view(DraftPlan(weight_bits=4))
    enough.draft_view(DraftPlan(SkipSet((1,)), weight_bits=4))
    with pytest.raises(ConfigError, match="beside"):
        enough.draft_view(DraftPlan(weight_bits=8))


def test_threads_share_one_copy() -> None:
    """Guards against two requests that each make a copy."""
    own, views = Target(tiny_model(dtype=torch.bfloat16)), []
    threads = [
        threading.Thread(target=lambda: views.append(own.draft_view(DraftPlan(weight_bits=4))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(view._module.lm_head) for view in views}) == 1


def test_what_the_kernels_cannot_run_stays_as_it_is() -> None:
    """Guards against a group that reaches over the end of a row."""
    own = Target(tiny_model(dtype=torch.bfloat16, intermediate_size=72))
    view = own.draft_view(DraftPlan(weight_bits=4))
    left = [n for n, m in view._module.named_modules() if isinstance(m, nn.Linear)]
    assert left == [f"model.layers.{i}.mlp.down_proj" for i in range(5)]
    view.forward(own.new_cache(4), [3], ((0,),))


def test_models_that_look_at_their_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a draft that fails in the middle of a text."""
    model = tiny_model(dtype=torch.bfloat16)
    mlp = type(model.model.layers[0].mlp)
    monkeypatch.setattr(mlp, "forward", lambda self, x: x.to(self.up_proj.weight.dtype))
    own = Target(model)
    with pytest.raises(UnsupportedModelError, match="does not run with rounded weights"):
        own.draft_view(DraftPlan(weight_bits=4))


def test_models_without_a_plain_linear_are_refused() -> None:
    """Guards against a draft that is the target under another name."""
    own = Target(tiny_model(hidden_size=40, intermediate_size=72, head_dim=20))
    assert own.predict_copy_bytes(4) == 0
    with pytest.raises(UnsupportedModelError, match="weight_bits=16"):
        own.draft_view(DraftPlan(weight_bits=4))


def test_only_plain_linears_are_read() -> None:
    """Guards against a copy of a weight that the module does not use as a plain linear does."""
    linear, transposed, moved = nn.Linear(4, 3), Conv1D(3, 4), nn.Linear(4, 3)
    assert dense_weight(linear) is not None
    assert dense_weight(linear).data_ptr() == linear.weight.data_ptr()
    assert dense_weight(transposed).shape == (3, 4)
    moved.forward = linear.forward
    for module in (moved, nn.Linear(4, 3, device="meta"), nn.Embedding(3, 4), nn.LayerNorm(4)):
        assert dense_weight(module) is None
