"""Searching skip sets on models whose useless sublayers are known."""

import functools

import pytest
import torch
from decoding_runs import Recorder, new_state
from tiny_models import make_prompt, tiny_model

from selfdraft import Engine, SkipSet
from selfdraft.decoding.loop import speculate
from selfdraft.decoding.state import DecodingState
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.search.matchness import Window, measure_agreement
from selfdraft.search.strategies.hidden_state_search import search_hidden_states

USELESS = SkipSet((1, 3, 4), (1, 2, 3))


@functools.cache
def planted_engine() -> Engine:
    model = tiny_model(num_hidden_layers=6)
    with torch.no_grad():
        for index in USELESS.attention:
            model.model.layers[index].self_attn.o_proj.weight.zero_()
        for index in USELESS.mlp:
            model.model.layers[index].mlp.down_proj.weight.zero_()
    return Engine(model, draft="off")


def written(engine: Engine, num_tokens: int = 40, **options: object) -> DecodingState:
    state = new_state(engine, make_prompt(9), Recorder(), max_new_tokens=num_tokens, **options)
    for _ in speculate(engine.target, engine.drafter("off"), state):
        pass
    return state


def contents(state: DecodingState) -> list[torch.Tensor]:
    length = state.cache.length
    return [b[:, :, :length].clone() for layer in state.cache.layers for b in layer.buffers]


@pytest.mark.parametrize("num_tokens", [1, 3])
def test_useless_sublayers_are_found_in_one_pass(num_tokens: int) -> None:
    """Guards against a table that is traced back wrongly, and states that mix budgets."""
    engine = planted_engine()
    window = Window.latest(written(engine), 32)
    sets = search_hidden_states(engine.target, window, 8, num_tokens)
    assert [s.num_skipped for s in sets] == list(range(9))
    assert sets[6] == USELESS
    for found in sets[:6]:
        assert set(found.attention) <= set(USELESS.attention)
        assert set(found.mlp) <= set(USELESS.mlp)


def test_search_leaves_the_cache_as_it_was() -> None:
    """The pass writes many rows, over rows of the text and behind the buffers' end."""
    engine = planted_engine()
    state = written(engine)
    before, length = contents(state), state.cache.length
    for window in (Window.latest(state, 32), Window.latest(state, 4)):
        search_hidden_states(engine.target, window, 8, 4)
        measure_agreement(engine.target.draft_view(DraftPlan(USELESS)), [window])
    assert state.cache.length == length
    assert all(torch.equal(a, b) for a, b in zip(before, contents(state), strict=True))


def test_whole_layers_are_skipped_only_where_that_is_all_there_is() -> None:
    """Nothing of the first and last layer is ever named."""
    engine = planted_engine()
    window = Window.latest(written(engine), 32)
    everything = search_hidden_states(engine.target, window, 20)[-1]
    assert everything == SkipSet((1, 2, 3, 4), (1, 2, 3, 4))


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_perfect_draft_matches_every_token(temperature: float) -> None:
    """With temperature, a draft that ignored the request's noise would not."""
    engine = planted_engine()
    window = Window.latest(written(engine, temperature=temperature, seed=4), 32)
    perfect = measure_agreement(engine.target.draft_view(DraftPlan(USELESS)), [window])
    assert (perfect.num_matches, perfect.num_tokens) == (32, 32)
    assert perfect.matchness == 1.0
    assert perfect.acceptance == pytest.approx(33 / 34)
    other = measure_agreement(engine.target.draft_view(DraftPlan(SkipSet((2,), (4,)))), [window])
    assert other.matchness < 0.9


def test_matchness_is_of_the_latest_tokens() -> None:
    """The reference scored the first tokens of a request, however long it grew."""
    state = written(planted_engine())
    window = Window.latest(state, 8)
    assert (window.start, window.end) == (9 + 40 - 8, 9 + 40)
    assert Window.latest(written(planted_engine(), 7), 8) is None


def test_several_windows_are_one_score() -> None:
    """Guards against an average of rates, which would weigh short windows too much."""
    engine = planted_engine()
    windows = [Window.latest(written(engine, seed=s, temperature=1.0), 16) for s in range(2)]
    view = engine.target.draft_view(DraftPlan(SkipSet((2,), ())))
    both = measure_agreement(view, windows)
    each = [measure_agreement(view, [window]).num_matches for window in windows]
    assert (both.num_matches, both.num_tokens) == (sum(each), 32)
