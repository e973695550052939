"""What the target knows about the user's model."""

import pytest
import torch
from tiny_models import NUM_LAYERS, VOCAB_SIZE, tiny_model

from selfdraft import SkipSet
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.kernels import tile_linear
from selfdraft.model.target import Target


@pytest.mark.parametrize(
    ("given", "expected"), [(None, set()), (3, {3}), ([3, 5], {3, 5}), ([], set())]
)
def test_end_tokens(given: int | list[int] | None, expected: set[int]) -> None:
    """Guards against one of several end tokens that is forgotten."""
    model = tiny_model()
    model.generation_config.eos_token_id = given
    assert Target(model).eos_token_ids == expected


def test_end_tokens_without_a_generation_config() -> None:
    """Guards against models that were built by hand."""
    model = tiny_model()
    model.generation_config = None
    assert Target(model).eos_token_ids == frozenset()


def test_sizes() -> None:
    """Guards against limits taken from the wrong field."""
    target = Target(tiny_model(max_position_embeddings=77))
    assert target.max_context == 77
    assert target.vocab_size == VOCAB_SIZE
    assert target.dtype == torch.float32
    assert target.layers.num_layers == NUM_LAYERS
    assert len(target.new_cache(3).layers) == NUM_LAYERS


@pytest.mark.parametrize(("dtype", "fewest"), [(torch.bfloat16, 2), (torch.float32, 1)])
def test_bfloat16_never_runs_one_row(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, fewest: int
) -> None:
    """Guards against one-row products, whose bits differ from those of many rows, in the target
    and in its drafts; and against padding where it only costs time.
    """
    rows: list[int] = []
    linear = torch.nn.functional.linear

    def counting_linear(features: torch.Tensor, *args: object) -> torch.Tensor:
        rows.append(features.shape[-2])
        return linear(features, *args)

    monkeypatch.setattr(tile_linear, "_kernel", lambda: None)  # one row is right there
    target = Target(tiny_model(dtype=dtype))
    views = (target, target.draft_view(DraftPlan(SkipSet((2,), (1,)))))
    monkeypatch.setattr(torch.nn.functional, "linear", counting_linear)
    for view in views:
        logits = view.forward(target.new_cache(8), [5], ((0,),))
        assert logits.shape == (1, VOCAB_SIZE)
    assert min(rows) == fewest


def test_uniform_skip_set_is_within_the_eligible_layers() -> None:
    """Guards against a default draft that the target then refuses."""
    target = Target(tiny_model())
    for percent in range(0, 101, 10):
        target.draft_view(DraftPlan(target.uniform_skip_set(percent / 100)))
    assert target.uniform_skip_set(0.0) == SkipSet()
    assert target.uniform_skip_set(1.0).num_skipped == 2 * len(target.layers.eligible)
