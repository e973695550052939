"""A decoder that transformers does not know is learned like any other: by watching it run."""

import pytest
import torch
from decoding_runs import decode
from families import INNER_LAYERS, NUM_LAYERS, PROMPT
from tiny_models import transformers_greedy
from transformers import PreTrainedModel
from unknown_models import (
    FusedForCausalLM,
    OddForCausalLM,
    OldForCausalLM,
    PoliteForCausalLM,
    build,
)

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.errors import SkipSetError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.target import Target

SKIP_SETS = (SkipSet(), SkipSet((2,), (1,)), SkipSet(mlp=INNER_LAYERS))
WHOLE = (SkipSet(), SkipSet(INNER_LAYERS, INNER_LAYERS))


def drafts(skip_set: SkipSet) -> tuple[DraftConfig, DraftConfig]:
    """A chain, and a tree (for a target without trees: its main chain)."""
    wide = DraftConfig(
        skip_set=skip_set, stop_confidence=0.0, max_draft_steps=3, sibling_counts=((1.0, 2),)
    )
    return DraftConfig.chain(4, skip_set=skip_set), wide


@pytest.mark.parametrize(
    ("model_class", "has_trees"), [(OddForCausalLM, False), (PoliteForCausalLM, True)]
)
def test_sublayers_are_learned(model_class: type[PreTrainedModel], has_trees: bool) -> None:
    """Guards against a list of families, names or call signatures in the code."""
    target = Target(build(model_class))
    layers = target.layers
    assert layers.list_name == "blocks"
    assert layers.eligible_alone == INNER_LAYERS
    assert set(layers.reasons) == {0, NUM_LAYERS - 1}
    assert {layer.attention_name for layer in layers.layers} == {"mixer_a"}
    assert {layer.mlp_names for layer in layers.layers} == {("ff",)}
    assert target.supports_trees == has_trees


@pytest.mark.parametrize(
    ("model_class", "skip_sets"),
    [(OddForCausalLM, SKIP_SETS), (PoliteForCausalLM, SKIP_SETS), (FusedForCausalLM, WHOLE)],
)
def test_tokens_are_those_of_generate(
    model_class: type[PreTrainedModel], skip_sets: tuple[SkipSet, ...]
) -> None:
    """Guards L1 on models whose code nobody here has read."""
    engine = Engine(build(model_class))
    expected = transformers_greedy(engine.target.model, PROMPT, 12)
    assert len(set(expected)) > 4
    rates = []
    for draft in ("off", *(draft for skip_set in skip_sets for draft in drafts(skip_set))):
        run = decode(engine, PROMPT, draft, max_new_tokens=12)
        assert run.sink.token_ids == expected, draft
        rates.append(run.state.stats.acceptance_rate)
    assert max(rates) == 1.0, "a draft that skips nothing is right"


def test_a_model_that_calls_its_cache_as_older_ones_did() -> None:
    """Guards against a model refused for the name of an argument."""
    model = build(OldForCausalLM)
    sequence = list(PROMPT)
    for _ in range(12):  # this version's own generate may not know the name any more
        logits = model(torch.tensor([sequence]), use_cache=False).logits
        sequence.append(int(logits[0, -1].argmax()))
    run = decode(Engine(model), PROMPT, drafts(SkipSet((2,), (1,)))[0], max_new_tokens=12)
    assert run.sink.token_ids == tuple(sequence[len(PROMPT) :])


@pytest.mark.parametrize("kind", ["attention", "mlp"])
@pytest.mark.parametrize("model_class", [OddForCausalLM, PoliteForCausalLM])
@torch.inference_mode()
def test_a_skipped_sublayer_contributes_nothing(
    model_class: type[PreTrainedModel], kind: str
) -> None:
    """Guards against stubs that fit the certificate and drop something else.

    With its last matrix at zero a sublayer is silent by itself, and skipping it changes no bit.
    """
    model = build(model_class)
    block = model.blocks[1]
    if kind == "attention":
        output = block.mixer_a.back
    else:
        output = block.ff[2] if isinstance(block.ff, torch.nn.Sequential) else block.ff.narrow
    output.weight.zero_()
    output.bias.zero_()
    target = Target(model)
    view = target.draft_view(DraftPlan(SkipSet(**{kind: (1,)})))
    rows = []
    for runner in (target, view):
        cache = target.new_cache(len(PROMPT) + 1)
        target.prefill(cache, PROMPT[:-1])
        rows.append(runner.forward(cache, PROMPT[-1:], ((0,),)))
    assert torch.equal(*rows)


def test_bits_of_an_unknown_family() -> None:
    """Guards against bits that are promised for known attention classes only (contract L2)."""
    engine = Engine(build(PoliteForCausalLM).to(torch.bfloat16))
    assert engine.target.is_bit_exact
    vanilla = decode(engine, PROMPT, "off", max_new_tokens=12)
    drafted = decode(engine, PROMPT, drafts(SkipSet((1,), (2,)))[1], max_new_tokens=12)
    assert torch.equal(drafted.sink.logits, vanilla.sink.logits)


@pytest.mark.parametrize("skip_set", [SkipSet(attention=(1,)), SkipSet(mlp=(2,))])
def test_a_fused_layer_is_skipped_whole_or_not_at_all(skip_set: SkipSet) -> None:
    """Guards against half of a layer skipped where nobody can tell the halves apart."""
    target = Target(build(FusedForCausalLM))
    assert target.layers.eligible == INNER_LAYERS
    assert target.layers.eligible_alone == ()
    with pytest.raises(SkipSetError, match="cannot be told apart"):
        target.draft_view(DraftPlan(skip_set))
