"""After any round the cache holds what plain decoding of the same tokens would have put there."""

import pytest
import torch
from decoding_runs import PlannedDrafter, Recorder, Run, chain_after_root, decode, new_state
from tiny_models import DRAFTS, make_prompt, tiny_engine, tiny_model

from selfdraft import Engine
from selfdraft.decoding.loop import speculate
from selfdraft.model.cache.kv_cache import KVCache

PROMPT = make_prompt(7)


def fresh_cache(engine: Engine, token_ids: list[int], num_prefilled: int) -> KVCache:
    """The cache of a prefill, then plain decoding of every token after it."""
    cache = engine.target.new_cache(len(token_ids))
    engine.target.prefill(cache, token_ids[:num_prefilled])
    for token_id in token_ids[num_prefilled:]:
        engine.target.forward(cache, [token_id], ((0,),))
        cache.advance(1)
    return cache


def rows_of(cache: KVCache) -> torch.Tensor:
    """Every layer's keys and values of the sequence, in one tensor."""
    rows = [buffer[0, :, : cache.length] for layer in cache.layers for buffer in layer.buffers]
    return torch.stack(rows)


def assert_cache_is_fresh(engine: Engine, run: Run) -> None:
    token_ids = run.state.token_ids
    assert run.state.cache.length == len(token_ids) - 1
    expected = rows_of(fresh_cache(engine, token_ids[:-1], len(PROMPT) - 1))
    actual = rows_of(run.state.cache)
    if engine.target.dtype == torch.bfloat16:
        assert torch.equal(actual, expected)
    else:
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["chain", "wide tree", "attention skipped"])
def test_cache_after_many_rounds(name: str, dtype: torch.dtype) -> None:
    """Guards against rejected rows that stay, accepted siblings' rows that are not moved, and
    rows of the draft that are taken for the target's.
    """
    engine = tiny_engine(dtype=dtype)
    assert_cache_is_fresh(engine, decode(engine, PROMPT, DRAFTS[name], max_new_tokens=20))


def vanilla_tokens(dtype: torch.dtype, num: int) -> tuple[int, ...]:
    return decode(tiny_engine(dtype=dtype), PROMPT, "off", max_new_tokens=num).sink.token_ids


def run_planned(engine: Engine, planned: PlannedDrafter, sink: Recorder, **options: object) -> Run:
    state = new_state(engine, PROMPT, sink, **options)
    return Run(sink, state, list(speculate(engine.target, planned, state)))


def test_accepted_sibling_path_moves_its_rows() -> None:
    """Guards against a path off the main chain whose rows stay where other tokens were."""
    engine = tiny_engine(dtype=torch.bfloat16)
    a, b, c, d = vanilla_tokens(torch.bfloat16, 4)
    wrong = next(token for token in range(96) if token not in (a, b, c, d))
    tree = ([wrong, wrong, a, wrong, b, wrong, c], [0, 1, 0, 3, 3, 5, 5])
    run = run_planned(engine, PlannedDrafter(tree), Recorder(), max_new_tokens=4)
    assert run.sink.token_ids == (a, b, c, d)
    assert run.rounds[0].accepted == (0, 3, 5, 7)
    assert_cache_is_fresh(engine, run)


@pytest.mark.parametrize("cut", [1, 2, 4])
@pytest.mark.parametrize("how", ["eos", "sink"])
def test_cut_in_the_middle_of_an_accepted_path(how: str, cut: int) -> None:
    """Guards against tokens, rows, counts or logits behind the end of a generation."""
    expected = vanilla_tokens(torch.bfloat16, 8)
    assert expected.index(expected[cut - 1]) == cut - 1, "the end token comes up only there"
    planned = PlannedDrafter(chain_after_root(expected[:6]))
    if how == "eos":
        engine = Engine(tiny_model(dtype=torch.bfloat16, eos_token_id=expected[cut - 1]))
        run = run_planned(engine, planned, Recorder(), max_new_tokens=8)
        assert run.state.finish_reason == "eos"
    else:
        engine = tiny_engine(dtype=torch.bfloat16)
        run = run_planned(engine, planned, Recorder(stop_after=cut), max_new_tokens=8)
        assert run.state.finish_reason == "stop"
    assert run.sink.token_ids == expected[:cut]
    assert run.state.token_ids == [*PROMPT, *expected[:cut]]
    assert run.state.stats.num_new_tokens == run.state.stats.num_accepted == cut
    assert_cache_is_fresh(engine, run)


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 7])
def test_cut_by_length(num_tokens: int) -> None:
    """Guards against a path longer than the tokens that are still wanted."""
    engine = tiny_engine(dtype=torch.bfloat16)
    expected = vanilla_tokens(torch.bfloat16, 8)
    planned = PlannedDrafter(chain_after_root(expected[:7]))
    run = run_planned(engine, planned, Recorder(), max_new_tokens=num_tokens)
    assert run.sink.token_ids == expected[:num_tokens]
    assert run.state.finish_reason == "length"
    assert_cache_is_fresh(engine, run)
