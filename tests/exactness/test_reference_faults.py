"""One test for each known fault of SWIFT's reference code that decoding could repeat."""

import functools

import pytest
import torch
from decoding_runs import PlannedDrafter, Recorder, chain_after_root, decode, new_state
from tiny_models import (
    DRAFTS,
    EVERYTHING,
    TREE,
    make_prompt,
    tiny_engine,
    tiny_model,
    transformers_greedy,
)
from transformers import MistralConfig, Qwen2Config

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.decoding.loop import decode_round, prefill, speculate

PROMPT = make_prompt(7)


def test_bonus_token_is_drawn_from_warped_logits() -> None:
    """The reference drew the bonus token after a fully accepted path from unwarped logits.

    With top_k=1 every token is the likeliest one, the bonus token too, at any temperature.
    """
    greedy = decode(tiny_engine(), PROMPT, "off", max_new_tokens=12).sink.token_ids
    draft = DraftConfig.chain(2, skip_set=SkipSet())
    for seed in range(3):
        run = decode(
            tiny_engine(), PROMPT, draft, max_new_tokens=12, temperature=5.0, top_k=1, seed=seed
        )
        assert run.state.stats.acceptance_rate == 1.0
        assert run.sink.token_ids == greedy


@functools.cache
def engine_that_writes_token_0() -> Engine:
    """Token 0 is the target's choice after a few tokens: its logits are raised a little."""
    model = tiny_model(vocab_size=40, seed=3)
    with torch.no_grad():
        model.lm_head.weight[0] *= 2.5
    return Engine(model)


def test_token_0_is_drafted_and_accepted_like_any_other() -> None:
    """The reference padded short paths with token 0, so that token 0 meant nothing there."""
    engine = engine_that_writes_token_0()
    prompt = make_prompt(5, vocab_size=40)
    expected = transformers_greedy(engine.target.model, prompt, 24)
    assert expected.count(0) >= 3
    perfect = DraftConfig.chain(5, skip_set=SkipSet())
    assert decode(engine, prompt, perfect, max_new_tokens=24).state.stats.acceptance_rate == 1.0
    for name in ("tree", "wide tree", "everything skipped"):
        run = decode(engine, prompt, DRAFTS[name], max_new_tokens=24)
        assert run.sink.token_ids == expected


def test_token_0_is_not_accepted_as_padding() -> None:
    """The reference's padded paths let token 0 be kept where no draft had proposed it.

    The paths of this tree have different lengths, and the target's choice after the end of the
    short one is token 0: it may only be written as a bonus token.
    """
    engine = engine_that_writes_token_0()
    prompt = make_prompt(5, vocab_size=40)
    written = transformers_greedy(engine.target.model, prompt, 24)
    start = next(i for i in range(1, 22) if written[i] != 0 and written[i + 1] == 0)
    prefix, (first, zero, then) = [*prompt, *written[:start]], written[start : start + 3]
    wrong = [token for token in range(1, 40) if token not in (first, zero, then)]
    tree = ([first, *wrong[:4]], [0, 0, 2, 3, 4])
    state = new_state(engine, prefix, Recorder(), max_new_tokens=8)
    prefill(engine.target, state)
    done = decode_round(engine.target, PlannedDrafter(tree), state)
    assert done.accepted == (0, 1)
    assert state.token_ids == [*prefix, first, 0]
    assert state.stats.num_accepted == 1


def test_cache_is_neither_cloned_nor_reallocated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference cloned the whole KV cache in every round."""
    engine = tiny_engine()
    state = new_state(engine, make_prompt(200), Recorder(), max_new_tokens=30)
    rounds = speculate(engine.target, engine.drafter(DRAFTS["wide tree"]), state)
    next(rounds)
    buffers = [buffer for layer in state.cache.layers for buffer in layer.buffers]
    addresses = [buffer.data_ptr() for buffer in buffers]
    num_kept = buffers[0][:, :, : state.cache.length].numel()
    copied = track_copies(monkeypatch)
    for _ in rounds:
        pass
    after = [buffer.data_ptr() for layer in state.cache.layers for buffer in layer.buffers]
    assert after == addresses
    assert copied, "nothing was tracked"
    assert max(copied) < num_kept / 2


def track_copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of elements of every cloned or concatenated tensor from now on."""
    sizes: list[int] = []
    clone, cat = torch.Tensor.clone, torch.cat

    def tracked_clone(tensor: torch.Tensor, **kwargs: object) -> torch.Tensor:
        sizes.append(tensor.numel())
        return clone(tensor, **kwargs)

    def tracked_cat(tensors: object, *args: object, **kwargs: object) -> torch.Tensor:
        joined = cat(tensors, *args, **kwargs)
        sizes.append(joined.numel())
        return joined

    monkeypatch.setattr(torch.Tensor, "clone", tracked_clone)
    monkeypatch.setattr(torch, "cat", tracked_cat)
    return sizes


def test_output_ends_exactly_at_the_end_token_and_at_max_new_tokens() -> None:
    """The reference wrote on behind the end token and past the limit, to the end of the round."""
    written = decode(tiny_engine(), PROMPT, "off", max_new_tokens=12).sink.token_ids
    end = next(i for i in range(2, 12) if written.index(written[i]) == i)
    engine = Engine(tiny_model(eos_token_id=written[end]))
    draft = DraftConfig.chain(12, skip_set=SkipSet())
    result = engine.generate(PROMPT, draft=draft, max_new_tokens=12)
    assert (result.token_ids, result.finish_reason) == (written[: end + 1], "eos")
    result = tiny_engine().generate(PROMPT, draft=draft, max_new_tokens=5)
    assert (result.token_ids, result.finish_reason) == (written[:5], "length")


@pytest.mark.slow
def test_more_than_512_rounds() -> None:
    """The reference stopped after 512 rounds, whatever was asked for."""
    result = tiny_engine().generate(PROMPT, draft="off", max_new_tokens=620)
    assert len(result.token_ids) == result.stats.num_rounds == 620


def test_requests_with_different_skip_sets_do_not_meet() -> None:
    """The reference kept skip set and draft flag in module globals: one per process."""
    shared = tiny_model()
    engines = [Engine(shared), Engine(shared), tiny_engine("qwen2")]
    drafts = [
        DRAFTS["attention skipped"],
        DraftConfig.chain(3, skip_set=EVERYTHING),
        DraftConfig(skip_set=SkipSet((), (2,)), stop_confidence=0.1, max_draft_steps=4),
    ]
    jobs = list(zip(engines, drafts, strict=True))
    alone = [decode(engine, PROMPT, draft, max_new_tokens=16) for engine, draft in jobs]
    sinks = [Recorder() for _ in jobs]
    states = [
        new_state(engine, PROMPT, sink, max_new_tokens=16)
        for (engine, _), sink in zip(jobs, sinks, strict=True)
    ]
    running = [
        speculate(engine.target, engine.drafter(draft), state)
        for (engine, draft), state in zip(jobs, states, strict=True)
    ]
    while running:
        running = [rounds for rounds in running if next(rounds, None) is not None]
    assert [sink.token_ids for sink in sinks] == [run.sink.token_ids for run in alone]
    counts = [(s.stats.num_rounds, s.stats.num_drafted, s.stats.num_accepted) for s in states]
    assert counts == [
        (run.state.stats.num_rounds, run.state.stats.num_drafted, run.state.stats.num_accepted)
        for run in alone
    ]


@pytest.mark.parametrize("config_class", [Qwen2Config, MistralConfig])
def test_other_models_than_llama(config_class: type) -> None:
    """The reference was a copy of transformers' Llama and worked for nothing else."""
    model = tiny_model(config_class, num_key_value_heads=1)
    expected = transformers_greedy(model, PROMPT, 12)
    result = Engine(model).generate(PROMPT, draft=TREE, max_new_tokens=12)
    assert result.token_ids == expected
    assert result.stats.num_drafted > 0


def test_acceptance_rate_counts_positions_not_siblings() -> None:
    """The reference counted a hit for siblings too, so its rate could pass 1."""
    written = decode(tiny_engine(), PROMPT, "off", max_new_tokens=6).sink.token_ids
    wrong = [token for token in range(96) if token not in written]
    tree = ([written[0], written[1], *wrong[:6]], [0, 1, 0, 0, 0, 1, 1, 2])
    state = new_state(tiny_engine(), PROMPT, Recorder(), max_new_tokens=6)
    for _ in speculate(tiny_engine().target, PlannedDrafter(tree), state):
        pass
    assert state.stats.num_drafted == 3
    assert state.stats.num_accepted == 2
    assert state.stats.num_accepted_siblings == 0
    assert state.stats.acceptance_rate == pytest.approx(2 / 3)
    wide = decode(tiny_engine(), PROMPT, DRAFTS["wide tree"], max_new_tokens=24).state.stats
    assert wide.num_drafted <= 4 * wide.num_rounds
    assert wide.num_accepted + wide.num_rounds == wide.num_new_tokens
    assert wide.acceptance_rate <= 1


def test_accepted_siblings_are_told_apart() -> None:
    """A tree that is kept by its siblings reads like a good draft; the drafted token was wrong."""
    written = decode(tiny_engine(), PROMPT, "off", max_new_tokens=6).sink.token_ids
    wrong = [token for token in range(96) if token not in written]
    # After the root a wrong token and, beside it, the right one, which the next right one follows.
    tree = ([wrong[0], written[0], written[1]], [0, 0, 2])
    state = new_state(tiny_engine(), PROMPT, Recorder(), max_new_tokens=3)
    for _ in speculate(tiny_engine().target, PlannedDrafter(tree), state):
        pass
    assert state.stats.num_accepted == 2
    assert state.stats.num_accepted_siblings == 2


def test_planned_chain_that_is_right_is_fully_accepted() -> None:
    """Guards these tests: a drafter that plans the right tokens must be believed."""
    written = decode(tiny_engine(), PROMPT, "off", max_new_tokens=6).sink.token_ids
    state = new_state(tiny_engine(), PROMPT, Recorder(), max_new_tokens=6)
    planned = PlannedDrafter(chain_after_root(written[:5]))
    assert len(list(speculate(tiny_engine().target, planned, state))) == 1
