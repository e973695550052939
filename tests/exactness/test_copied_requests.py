"""Copies from earlier requests: the text stays the target's, and comes in fewer rounds."""

import functools
from itertools import zip_longest

import pytest
import torch
from decoding_runs import Script
from tiny_models import make_prompt, reference_output, tiny_engine, tiny_model

from selfdraft import Engine
from selfdraft.drafting.cost_model import CostModel
from selfdraft.generation import Generation, Result

PROMPT = make_prompt(9)
PASSAGE = make_prompt(60, seed=5)


@pytest.fixture(autouse=True)
def _unmeasured_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows cost what they do before any was timed: whether a copy pays does not hang on the day."""
    monkeypatch.setattr(CostModel, "observe_verify", lambda *_: None)


@functools.cache
def model(dtype: torch.dtype) -> torch.nn.Module:
    return tiny_model(dtype=dtype)


def new_engine(dtype: torch.dtype = torch.float32, *, on: bool) -> Engine:
    return Engine(model(dtype), draft="suffix", remember=False, copy_earlier_texts=on)


def stream(engine: Engine, prompt: list[int] = PROMPT) -> Generation:
    """A request whose output is the passage, which does not repeat itself."""
    script = Script(len(prompt), PASSAGE)
    return engine.stream(prompt, max_new_tokens=len(PASSAGE), logits_processors=[script])


def run(generation: Generation) -> Result:
    for _ in generation:
        pass
    return generation.result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_second_request_copies_the_first_and_writes_its_own_text(
    dtype: torch.dtype, temperature: float
) -> None:
    """Guards the contract where another request's text is drafted: right drafts, then wrong ones.

    The third request has the same prompt and another seed, or a prompt that differs in a token.
    """
    engine, vanilla = new_engine(dtype, on=True), new_engine(dtype, on=False)
    prompt, options = PROMPT, {"temperature": temperature, "max_new_tokens": 40}
    for num_earlier in range(3):
        if num_earlier == 2 and not temperature:
            prompt = [PROMPT[0] + 1, *PROMPT[1:]]
        seed = 1 if num_earlier < 2 else 2
        drafted = engine.generate(prompt, seed=seed, **options)
        plain = vanilla.generate(prompt, seed=seed, draft="off", **options)
        assert drafted.token_ids == plain.token_ids
        if dtype == torch.float32 and not temperature:
            assert drafted.token_ids == reference_output("llama", dtype, (), tuple(prompt), 40)
        if num_earlier == 1:
            assert drafted.stats.mean_accepted_length > 3
        if num_earlier == 2:
            assert drafted.stats.num_accepted < drafted.stats.num_drafted


def test_a_request_is_faster_for_what_an_earlier_one_wrote() -> None:
    """Guards against texts that are kept and not used."""
    length = {}
    for on in (False, True):
        engine = new_engine(on=on)
        first, second = run(stream(engine)), run(stream(engine, make_prompt(9, seed=8)))
        assert first.token_ids == second.token_ids == tuple(PASSAGE)
        length[on] = second.stats.mean_accepted_length
    assert length[True] > 3 * length[False]


def test_nothing_is_shared_unasked() -> None:
    """Guards against one user who learns from the speed what another one wrote."""
    engine = tiny_engine()
    own, after_another = new_engine(on=False), new_engine(on=False)
    run(stream(after_another))
    assert after_another.drafts._earlier is engine.drafts._earlier is None
    fresh = run(stream(own, PASSAGE[:9])).stats
    later = run(stream(after_another, PASSAGE[:9])).stats
    # What is learned of kinds of drafts is shared, so a round more or less is no text.
    assert later.mean_accepted_length < 1.2 * fresh.mean_accepted_length


def test_requests_in_turn_do_not_disturb_each_other() -> None:
    """Guards against texts of running requests that are mixed, and matches that go stale as
    others end.
    """
    engine = new_engine(on=True)
    run(stream(engine))
    running = [stream(engine, make_prompt(9, seed=seed)) for seed in (1, 2)]
    next(running[0])
    run(stream(engine, make_prompt(30, seed=3)))
    for _ in zip_longest(*running):
        pass
    for generation in running:
        assert generation.result.token_ids == tuple(PASSAGE)
        assert generation.result.stats.mean_accepted_length > 3


@pytest.mark.parametrize("fails", [False, True])
def test_a_request_that_is_stopped_or_fails_is_kept_as_far_as_it_came(fails: bool) -> None:
    """Guards against earlier texts that are lost, or half written, with a request that ends."""
    engine = new_engine(on=True)
    run(stream(engine, PASSAGE[30:50]))
    generation = stream(engine, make_prompt(9, seed=4))
    next(generation)
    if fails:
        generation._state.cache.keep = None  # type: ignore[method-assign,assignment]
        with pytest.raises(TypeError):
            run(generation)
    else:
        del generation
    assert engine.drafts._earlier is not None
    kept = engine.drafts._earlier.text.token_ids
    assert kept[kept.index(-1, 1) + 1 :][:10] == [*make_prompt(9, seed=4), PASSAGE[0]]
    assert run(stream(engine)).stats.mean_accepted_length > 3
