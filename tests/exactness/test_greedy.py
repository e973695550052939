"""Contract L1: in float32 and float64 greedy output is transformers' own, token for token."""

import functools

import pytest
import torch
from decoding_runs import decode
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import (
    DRAFTS,
    ELIGIBLE,
    make_prompt,
    reference_output,
    tiny_engine,
    tiny_model,
    transformers_greedy,
)

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.errors import PromptError

NUM_TOKENS = 16
EOS = (7, 21, 33, 52, 70, 88)
"""So many end tokens that most outputs meet one early."""


@pytest.mark.parametrize(
    ("name", "prompt_length"),
    [
        *((name, 17) for name in DRAFTS),
        *((name, length) for name in ("chain", "wide tree") for length in (1, 2, 60)),
    ],
)
def test_output_is_that_of_transformers(name: str, prompt_length: int) -> None:
    """Guards against any drafted token that the target would not have written itself."""
    prompt = tuple(make_prompt(prompt_length))
    run = decode(tiny_engine(), prompt, DRAFTS[name], max_new_tokens=NUM_TOKENS)
    assert run.sink.token_ids == reference_output("llama", torch.float32, (), prompt, NUM_TOKENS)


@pytest.mark.parametrize("name", ["tree", "everything skipped", "off"])
@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("llama", torch.float64),
        ("qwen2", torch.float32),
        ("mistral", torch.float32),
    ],
)
def test_other_dtypes_and_families(family: str, dtype: torch.dtype, name: str) -> None:
    """Guards against a cache, mask or bias that only happens to be right for float32 Llama."""
    prompt = tuple(make_prompt(17))
    run = decode(
        tiny_engine(family, dtype), prompt, DRAFTS.get(name, name), max_new_tokens=NUM_TOKENS
    )
    assert run.sink.token_ids == reference_output(family, dtype, (), prompt, NUM_TOKENS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["tree", "nothing skipped"])
def test_end_token_ends_the_output_where_transformers_ends_it(name: str, seed: int) -> None:
    """Guards against an end token in the middle of an accepted path that is run over."""
    prompt = tuple(make_prompt(9, seed=seed))
    expected = reference_output("llama", torch.float32, EOS, prompt, 40)
    run = decode(tiny_engine(eos_token_ids=EOS), prompt, DRAFTS[name], max_new_tokens=40)
    assert run.sink.token_ids == expected
    assert run.state.finish_reason == ("eos" if expected[-1] in EOS else "length")


@pytest.mark.parametrize("window", [2, 3, 8])
@pytest.mark.parametrize("name", ["chain", "wide tree", "off"])
def test_sliding_window(name: str, window: int) -> None:
    """Guards against a window that counts rows of the cache where it should count positions: on a
    tree the two differ, and a window may begin among the tree's own rows.
    """
    engine = sliding_engine(window)
    prompt = make_prompt(12)
    expected = transformers_greedy(engine.target.model, prompt, NUM_TOKENS)
    run = decode(engine, prompt, DRAFTS.get(name, name), max_new_tokens=NUM_TOKENS)
    assert run.sink.token_ids == expected


@functools.cache
def sliding_engine(window: int) -> Engine:
    return Engine(tiny_model("mistral", sliding_window=window))


def test_the_end_tokens_of_these_tests_do_end_outputs_early() -> None:
    """Guards against the test above checking nothing because no output meets an end token."""
    lengths = [
        len(reference_output("llama", torch.float32, EOS, tuple(make_prompt(9, seed=seed)), 40))
        for seed in range(4)
    ]
    assert min(lengths) < 40
    assert len(set(lengths)) > 1


def test_rope_that_depends_on_the_length_of_the_sequence() -> None:
    """Guards against LongRoPE, whose angles change where the text grows past a length: the text
    ends there, cleanly, and up to there it is that of transformers.
    """
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 16,
        "long_factor": [4.0] * 16,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    engine = Engine(tiny_model(rope_parameters=rope))
    angles = engine.target.model.model.rotary_emb.inv_freq.clone()
    prompt = make_prompt(4)
    expected = transformers_greedy(tiny_model(rope_parameters=rope), prompt, 28)
    for name in ("off", "chain", "everything skipped"):
        result = engine.generate(prompt, draft=DRAFTS.get(name, name), max_new_tokens=48)
        assert result.finish_reason == "context"
        assert result.token_ids == tuple(expected), name
    assert torch.equal(engine.target.model.model.rotary_emb.inv_freq, angles)
    with pytest.raises(PromptError, match="context 32"):
        engine.generate(make_prompt(40))


layer_sets = st.sets(st.sampled_from(ELIGIBLE))
confidences = st.sampled_from([0.0, 0.3, 0.8, 1.0])
sibling_counts = st.lists(
    st.tuples(st.sampled_from([0.2, 0.5, 0.9, 1.0]), st.integers(1, 12)), max_size=4
).map(lambda pairs: tuple(sorted(pairs)))
drafts = st.builds(
    lambda attention, mlp, stop, steps, siblings: DraftConfig(
        skip_set=SkipSet(tuple(attention), tuple(mlp)),
        stop_confidence=stop,
        max_draft_steps=steps,
        sibling_counts=siblings,
    ),
    layer_sets,
    layer_sets,
    confidences,
    st.integers(1, 9),
    sibling_counts,
)


@pytest.mark.slow
@given(draft=drafts, prompt_length=st.sampled_from([1, 2, 17]), ends=st.booleans())
def test_any_draft_writes_the_same(draft: DraftConfig, prompt_length: int, ends: bool) -> None:
    """Guards against a combination of skip set, tree shape and early stopping nobody thought of."""
    prompt = tuple(make_prompt(prompt_length, seed=2))
    eos = EOS if ends else ()
    run = decode(tiny_engine(eos_token_ids=eos), prompt, draft, max_new_tokens=12)
    assert run.sink.token_ids == reference_output("llama", torch.float32, eos, prompt, 12)
