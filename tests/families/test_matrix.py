"""Every family of decoder-only models goes through the contract (docs/contract.md).

Most families are marked slow: together they take a minute, a few of each kind stay in the fast
suite.
"""

import functools
import random

import pytest
import torch
from decoding_runs import Run, decode
from families import FAMILIES, INNER_LAYERS, NUM_LAYERS, PROMPT, Family, tiny_engine
from tiny_models import transformers_greedy
from transformers import PreTrainedModel

from selfdraft import DraftConfig, SkipSet
from selfdraft.model.structure.sublayers import DecoderLayers

NUM_NEW_TOKENS = 12

every_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, id=family.name, marks=() if family.is_fast else pytest.mark.slow)
        for family in FAMILIES
    ],
)


def random_skip_set(layers: DecoderLayers, seed: str) -> SkipSet:
    """Something, but not everything, of what may be skipped."""
    generator = random.Random(seed)
    if not layers.eligible_alone:
        layer = generator.choice(layers.eligible)
        return SkipSet((layer,), (layer,))
    parts = [(kind, index) for kind in ("attention", "mlp") for index in layers.eligible_alone]
    chosen = generator.sample(parts, generator.randint(1, len(parts) - 1))
    return SkipSet(
        [index for kind, index in chosen if kind == "attention"],
        [index for kind, index in chosen if kind == "mlp"],
    )


def chain_of(family: Family) -> DraftConfig:
    layers = tiny_engine(family.name).target.layers
    return DraftConfig.chain(4, skip_set=random_skip_set(layers, f"{family.name} chain"))


def tree_of(family: Family) -> DraftConfig:
    """Two tokens at every position; families without trees draft the main chain alone."""
    layers = tiny_engine(family.name).target.layers
    return DraftConfig(
        skip_set=random_skip_set(layers, f"{family.name} tree"),
        stop_confidence=0.0,
        max_draft_steps=3,
        sibling_counts=((1.0, 2),),
    )


@functools.cache
def tree_run(family_name: str) -> Run:
    """A greedy generation with a tree draft, looked at by two tests and changed by none."""
    family = next(family for family in FAMILIES if family.name == family_name)
    return decode(tiny_engine(family_name), PROMPT, tree_of(family), max_new_tokens=NUM_NEW_TOKENS)


@every_family
def test_certificates(family: Family) -> None:
    """Guards against sublayers that are no longer recognised, which costs speed silently.

    And against trees promised for attention that does not know them.
    """
    target = tiny_engine(family.name).target
    assert type(target.model).__name__ == family.class_name
    assert target.layers.eligible == INNER_LAYERS
    assert target.layers.eligible_alone == (INNER_LAYERS if family.is_split else ())
    assert target.supports_trees == family.has_trees
    whole_only = set() if family.is_split else set(INNER_LAYERS)
    assert set(target.layers.reasons) == {0, NUM_LAYERS - 1} | whole_only


@every_family
def test_greedy_tokens_are_those_of_generate(family: Family) -> None:
    """Guards L1 against positions, windows and masks that a family counts in its own way.

    Every window and chunk is exceeded.
    """
    engine = tiny_engine(family.name)
    expected = transformers_greedy(engine.target.model, PROMPT, NUM_NEW_TOKENS)
    assert len(set(expected)) > 1, "a text of one token shows nothing"
    assert tree_run(family.name).sink.token_ids == expected
    for draft in ("off", chain_of(family)):
        run = decode(engine, PROMPT, draft, max_new_tokens=NUM_NEW_TOKENS)
        assert run.sink.token_ids == expected, draft


@torch.inference_mode()
def from_scratch(model: PreTrainedModel, token_ids: list[int]) -> torch.Tensor:
    """Logits of the next token, by the model itself in one pass without a cache."""
    logits: torch.Tensor = model(torch.tensor([token_ids]), use_cache=False).logits
    return logits[0, -1]


def num_rejected(run: Run) -> int:
    """Nodes, siblings among them, that were written to the cache and not kept."""
    return sum(len(done.tree.token_ids) - len(done.accepted) for done in run.rounds)


@every_family
def test_rollback_leaves_what_a_fresh_prefill_would(family: Family) -> None:
    """Guards against rejected rows that stay, and state that a rejected draft moves on."""
    engine = tiny_engine(family.name)
    run = tree_run(family.name)
    assert num_rejected(run) > 0
    token_ids = run.state.token_ids
    resumed = engine.target.forward(run.state.cache, token_ids[-1:], ((0,),))[0]

    cache = engine.target.new_cache(len(token_ids))
    engine.target.prefill(cache, token_ids[:-1])
    fresh = engine.target.forward(cache, token_ids[-1:], ((0,),))[0]
    torch.testing.assert_close(resumed, fresh, atol=1e-3, rtol=1e-3)
    alone = from_scratch(engine.target.model, token_ids)
    torch.testing.assert_close(resumed, alone, atol=1e-3, rtol=1e-3)


@every_family
def test_sampling_with_a_seed_is_the_same_with_a_draft(family: Family) -> None:
    """Guards L3: a draft that changes what is drawn."""
    engine, options = tiny_engine(family.name), {"temperature": 1.0, "seed": 7}
    vanilla = decode(engine, PROMPT, "off", max_new_tokens=8, **options)
    swift = decode(engine, PROMPT, "swift", max_new_tokens=8, **options)
    assert swift.sink.token_ids == vanilla.sink.token_ids


@every_family
def test_bfloat16_logits_have_the_same_bits(family: Family) -> None:
    """Guards L2 against a part of a layer that computes one row differently among many."""
    engine = tiny_engine(family.name, torch.bfloat16)
    if not engine.target.is_bit_exact:
        assert family.has_experts or not family.has_trees
        pytest.skip("no bits are promised for chains only, nor for experts")
    vanilla = decode(engine, PROMPT, "off", max_new_tokens=NUM_NEW_TOKENS)
    drafted = decode(engine, PROMPT, tree_of(family), max_new_tokens=NUM_NEW_TOKENS)
    assert drafted.sink.token_ids == vanilla.sink.token_ids
    assert torch.equal(drafted.sink.logits, vanilla.sink.logits)
