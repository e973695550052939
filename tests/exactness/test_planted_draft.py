"""A model with layers that do nothing: the draft that skips just those is always right."""

import pytest
import torch
from tiny_models import make_prompt, tiny_model

from selfdraft import DraftConfig, Engine, SkipSet

PLANTED = SkipSet((1, 3, 4), (1, 2, 3))


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def engine(request: pytest.FixtureRequest) -> Engine:
    model = tiny_model(num_hidden_layers=6, dtype=request.param)
    with torch.no_grad():
        for index in PLANTED.attention:
            model.model.layers[index].self_attn.o_proj.weight.zero_()
        for index in PLANTED.mlp:
            model.model.layers[index].mlp.down_proj.weight.zero_()
    return Engine(model)


@pytest.mark.parametrize("num_steps", [1, 3, 6])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_perfect_draft_is_always_accepted(
    engine: Engine, num_steps: int, temperature: float
) -> None:
    """Guards against a skip that touches the wrong sublayer, an off-by-one in drafting, and noise
    that drafter and target do not share: each would cost acceptance.
    """
    num_rounds = 4
    result = engine.generate(
        make_prompt(9),
        draft=DraftConfig.chain(num_steps, skip_set=PLANTED),
        max_new_tokens=num_rounds * (num_steps + 1),
        temperature=temperature,
    )
    assert result.stats.acceptance_rate == 1.0
    assert result.stats.mean_accepted_length == num_steps + 1
    assert result.stats.num_rounds == num_rounds
    assert result.stats.num_drafted == num_rounds * num_steps


def test_end_cut_does_not_cost_acceptance(engine: Engine) -> None:
    """Guards against drafting positions that the last round cannot use."""
    draft = DraftConfig.chain(4, skip_set=PLANTED)
    stats = engine.generate(make_prompt(9), draft=draft, max_new_tokens=12).stats
    assert (stats.num_rounds, stats.num_drafted, stats.num_accepted) == (3, 9, 9)


@pytest.mark.parametrize(
    "skip_set", [SkipSet((2,), ()), SkipSet((), (4,)), SkipSet((1, 2, 3, 4), (1, 2, 3, 4))]
)
def test_other_skip_sets_are_not_perfect(engine: Engine, skip_set: SkipSet) -> None:
    """Guards against a planted model on which any draft is perfect."""
    draft = DraftConfig.chain(3, skip_set=skip_set)
    assert engine.generate(make_prompt(9), draft=draft, max_new_tokens=24).stats.acceptance_rate < 1
