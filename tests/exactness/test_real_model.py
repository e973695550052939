"""The contract on the real default model; `selfdraft check` is the same with more prompts."""

import pytest

from selfdraft.bench.contract import TRANSFORMERS, Comparison, Contract, check_contract
from selfdraft.bench.planted import plant
from selfdraft.bench.prompts import encode_all, load_prompts
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.engine import Engine

pytestmark = pytest.mark.slow


def compare(dtype: str) -> tuple[Contract, dict[str, Comparison]]:
    engine = Engine.load("smollm2-135m", dtype=dtype, device="cpu")
    prompts = encode_all(load_prompts(None, 3), engine.tokenizer)
    comparisons = check_contract(engine, prompts, max_new_tokens=40)
    return Contract.for_engine(engine), {c.name: c for c in comparisons}


def test_float32_writes_what_transformers_writes() -> None:
    """L1. Guards against any draft, and against our attention or cache, changing a token."""
    contract, comparisons = compare("float32")
    assert comparisons[TRANSFORMERS].num_same_tokens == 3
    assert all(c.num_same_tokens == c.num_prompts == 3 for c in comparisons.values())
    assert all(contract.is_kept_by(c) for c in comparisons.values())


def test_bfloat16_has_the_same_bits_with_every_draft() -> None:
    """L2. Guards against a kernel whose result for a token depends on the tokens beside it."""
    contract, comparisons = compare("bfloat16")
    assert contract.promises_bits
    ours = [c for c in comparisons.values() if c.name != TRANSFORMERS]
    assert all(c.num_same_bits == c.num_same_tokens == c.num_prompts == 3 for c in ours)


def test_a_perfect_draft_is_always_accepted() -> None:
    """Guards against tokens lost between draft and verification: skipping what adds nothing gives
    the target's own bits, so every drafted token must be kept.
    """
    loaded = Engine.load("smollm2-135m", dtype="bfloat16", device="cpu")
    planted = plant(loaded.target.model)
    engine = Engine(planted.model)
    prompt = encode_all(load_prompts(None, 1), loaded.tokenizer)[0]
    draft = DraftConfig.chain(4, skip_set=planted.perfect_skip_set)
    stats = engine.generate(prompt, draft=draft, max_new_tokens=40).stats
    assert stats.acceptance_rate == 1.0
    assert stats.mean_accepted_length == 5.0
