"""Searches on a model whose redundant sublayers are known, and strategies beside each other."""

import functools
from itertools import islice

import pytest
from tiny_models import make_prompt, tiny_model
from transformers import Gemma3TextConfig, GPT2Config, GPT2LMHeadModel

from research.planted import PlantedTarget, plant
from research.planted_search import num_shared, search_planted
from research.strategy_runs import RecordedText, run_strategy
from selfdraft import Engine, SkipSet
from selfdraft.errors import ConfigError, UnsupportedModelError
from selfdraft.search.ahead_of_time import PassCosts, Tuning, record_windows
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.strategies.skip_space import SkipSpace
from selfdraft.search.strategies.table import Strategy

# Every sublayer that is skipped pays, and the more the better.
COSTS = PassCosts(verify={1: 1.0, 17: 1.2}, full_step=1.0, attention=0.04, mlp=0.04)


@functools.cache
def planted() -> tuple[PlantedTarget, Engine, RecordedText]:
    target = plant(tiny_model(num_hidden_layers=5, damping=1.0), seed=1)
    engine = Engine(target.model, draft="off", remember=False)
    windows = record_windows(engine.target, [make_prompt(9)], 32, engine.eos_token_ids)
    held_out = record_windows(
        engine.target, [make_prompt(9, seed) for seed in (1, 2)], 48, engine.eos_token_ids
    )
    return target, engine, RecordedText(windows, held_out, COSTS)


def test_what_was_planted_is_found() -> None:
    """Guards the count of what was found, and the whole search behind it."""
    target, engine, text = planted()
    found = search_planted(engine, target, text, num_proposals=60, seed=0)
    assert found.num_planted == 10
    assert found.num_found + found.num_wrong >= 10
    assert found.found_ratio >= 0.95
    assert found.proposals_to_enough <= found.num_proposals <= 60
    assert found.found.matchness >= 0.95
    assert found.found.predicted_speedup > 1
    assert found.planted.matchness == found.planted.held_out_matchness == 1.0


def test_all_that_was_written_is_searched_on() -> None:
    """Guards against text that is written and thrown away, and halves of one output in a row."""
    _, engine, _ = planted()
    windows = record_windows(
        engine.target, [make_prompt(9, seed) for seed in (1, 2)], 16, engine.eos_token_ids
    )
    assert [(window.start, window.end) for window in windows] == [
        (25, 41),
        (25, 41),
        (9, 25),
        (9, 25),
    ]
    assert [window.cache is windows[0].cache for window in windows] == [True, False, True, False]


def test_a_search_that_may_not_propose_enough_finds_nothing() -> None:
    """Guards against a row that says 'found' because the answer was looked up."""
    target, engine, text = planted()
    found = search_planted(engine, target, text, num_proposals=1, seed=0)
    assert found.num_found < 0.95 * found.num_planted
    assert found.proposals_to_enough is None


@pytest.mark.parametrize("skip_ratio", [0.06, 0.3, 0.45, 0.55, 0.95])
def test_the_start_has_the_size_of_what_is_proposed(skip_ratio: float) -> None:
    """Guards against a strategy that wins or loses because the start was a unit smaller."""
    _, engine, text = planted()
    config = SearchConfig(skip_ratio=skip_ratio)
    tuning = Tuning(engine.target, text.windows, COSTS, config, strategy="random")
    start = tuning.best
    assert start.num_skipped == tuning.space.count(skip_ratio)
    assert all(step.best.num_skipped == start.num_skipped for step in islice(tuning.run(), 5))


@pytest.mark.parametrize("strategy", ["random", "paper", "swaps", "hidden-states", "default"])
def test_strategies_are_compared_from_the_same_start(strategy: Strategy) -> None:
    """Guards against a curve that falls, starts elsewhere, or ends where the found set is not."""
    target, engine, text = planted()
    run = run_strategy(engine, text, strategy, 0.5, num_proposals=30)
    assert list(run.best_matchness) == [1, 5, 10, 25, 30]
    curve = [run.start_matchness, *run.best_matchness.values()]
    assert curve == sorted(curve)
    assert run.num_proposals <= 30
    assert run.skip_set.num_skipped == SkipSpace(engine.target.layers).count(0.5)
    other = run_strategy(engine, text, "random", 0.5, num_proposals=1)
    assert run.start_matchness == other.start_matchness
    assert run.held_out_matchness == text.held_out_agreement(engine, run.skip_set).matchness
    assert text.held_out_agreement(engine, target.perfect_skip_set).matchness == 1.0
    assert run.seconds > 0


def test_a_ratio_that_skips_nothing_is_refused() -> None:
    """Guards against strategies that are all equally good because none of them skips."""
    _, engine, text = planted()
    with pytest.raises(ConfigError, match="give a larger one"):
        run_strategy(engine, text, "swaps", 0.001, num_proposals=3)


def test_shared_sublayers_are_counted_by_kind() -> None:
    """Guards against an MLP that is taken for the attention of its layer."""
    assert num_shared(SkipSet((1, 2), (3,)), SkipSet((2, 3), (3, 4))) == 2
    assert num_shared(SkipSet((1,), ()), SkipSet((), (1,))) == 0


def test_models_that_cannot_be_planted_are_named() -> None:
    """Guards against layers that are called redundant and are not."""
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=2))
    with pytest.raises(UnsupportedModelError, match=r"no self_attn\.o_proj"):
        plant(gpt2)
    gemma = tiny_model(Gemma3TextConfig, layer_types=["full_attention"] * 5)
    with pytest.raises(UnsupportedModelError, match="leave the noise out"):
        plant(gemma, noise=0.03)
