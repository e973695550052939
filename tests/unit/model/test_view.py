"""Views: the same weights, with our attention and without some sublayers."""

import copy

import pytest
import torch
from tiny_models import ELIGIBLE, FAMILIES, make_prompt, tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from selfdraft import SkipSet
from selfdraft.errors import SkipSetError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.target import Target
from selfdraft.model.view import ModelView

TOKENS = make_prompt(9)


def chain_logits(view: ModelView, target: Target) -> Tensor:
    """Logits after each of `TOKENS`: a prefill of four by the target, and the rest at once."""
    cache = target.new_cache(16)
    target.prefill(cache, TOKENS[:4])
    rest = TOKENS[4:]
    return view.forward(cache, rest, tuple(tuple(range(i + 1)) for i in range(len(rest))))


@torch.inference_mode()
def plain_logits(model: PreTrainedModel) -> Tensor:
    return model(torch.tensor([TOKENS])).logits[0, 4:]


@pytest.mark.parametrize("family", FAMILIES)
def test_target_is_the_model(family: str) -> None:
    """Guards against positions, masks or scales that differ from transformers' own."""
    model = tiny_model(family)
    target = Target(model)
    torch.testing.assert_close(
        chain_logits(target, target), plain_logits(model), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "skip_set",
    [
        SkipSet(),
        SkipSet(attention=(2,)),
        SkipSet(mlp=(1, 3)),
        SkipSet((1, 2), (2, 3)),
        SkipSet(ELIGIBLE, ELIGIBLE),
    ],
    ids=str,
)
def test_skipping_is_zeroing_the_sublayers_contribution(family: str, skip_set: SkipSet) -> None:
    """Guards against a skip that drops the residual stream, the wrong norm, or the wrong layer."""
    model = tiny_model(family)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for index in skip_set.attention:
            zeroed.model.layers[index].self_attn.o_proj.weight.zero_()
        for index in skip_set.mlp:
            zeroed.model.layers[index].mlp.down_proj.weight.zero_()
    view = Target(model).draft_view(DraftPlan(skip_set))
    fresh = Target(zeroed)
    torch.testing.assert_close(chain_logits(view, fresh), chain_logits(fresh, fresh))


def test_skipping_nothing_has_the_same_bits() -> None:
    """Guards against a draft that differs from the target by more than its skip set."""
    target = Target(tiny_model())
    view = target.draft_view(DraftPlan())
    assert torch.equal(chain_logits(view, target), chain_logits(target, target))


def test_skipped_attention_writes_nothing() -> None:
    """Guards against a stub that leaves rows in the cache of a layer it does not run."""
    target = Target(tiny_model())
    view = target.draft_view(DraftPlan(SkipSet(attention=(2,))))
    cache = target.new_cache(16)
    target.prefill(cache, TOKENS[:4])
    before = [buffer.clone() for buffer in cache.layers[2].buffers]
    view.forward(cache, TOKENS[4:6], ((0,), (0, 1)))
    after = cache.layers[2].buffers
    assert all(torch.equal(b[:, :, :4], a[:, :, :4]) for b, a in zip(before, after, strict=True))
    assert cache.length == 4


def test_sublayers_that_may_not_be_skipped() -> None:
    """Guards against a draft without its first or last layer."""
    target = Target(tiny_model())
    for skip_set in (SkipSet((0,)), SkipSet((), (4,)), SkipSet((1, 9))):
        with pytest.raises(SkipSetError):
            target.draft_view(DraftPlan(skip_set))


def test_weights_that_change_later_change_the_view() -> None:
    """Guards against a view that decodes with an older copy of the weights."""
    model = tiny_model()
    target = Target(model)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight.mul_(0.5)
    torch.testing.assert_close(
        chain_logits(target, target), plain_logits(model), atol=1e-4, rtol=1e-4
    )


def test_prefill_needs_an_empty_cache() -> None:
    """Guards against a second prompt written over the first."""
    target = Target(tiny_model())
    cache = target.new_cache(16)
    target.prefill(cache, TOKENS)
    with pytest.raises(AssertionError, match="empty"):
        target.prefill(cache, TOKENS)
