"""The contract on the real default model; `selfdraft check` is the same with more prompts."""

import pytest
import torch

from research.planted import plant
from selfdraft.bench.run.contract import TRANSFORMERS, Comparison, Contract, check_contract
from selfdraft.bench.tasks.prompts import encode_all, load_prompts
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


@pytest.mark.parametrize("num_tokens", [60, 250, 507, 700])
def test_bits_at_longer_contexts(num_tokens: int) -> None:
    """L2. Guards against attention whose order of sums depends on the rows of a pass, at contexts
    in whose middle the kernel's blocks of 64 and of 512 keys begin.
    """
    engine = Engine.load("smollm2-135m", dtype="bfloat16", device="cpu")
    text = encode_all(load_prompts(None, 1), engine.tokenizer)[0]
    prompt, rows = (text * (num_tokens // len(text) + 1))[:num_tokens], text[:12]
    cache = engine.target.new_cache(num_tokens)
    engine.target.prefill(cache, prompt)
    chain = tuple(tuple(range(row + 1)) for row in range(len(rows)))
    # The last row is a sibling of the third; the chain's rows must not move for it.
    paths = (*chain[:-1], (0, 1, len(rows) - 1))
    together = engine.target.forward(cache, rows, paths)
    for row, token_id in enumerate(rows[:-1]):
        alone = engine.target.forward(cache, [token_id], ((0,),))
        assert torch.equal(alone[0], together[row]), f"row {row}"
        if row == 1:
            sibling = engine.target.forward(cache, [token_id, rows[-1]], ((0,), (0, 1)))
            assert torch.equal(sibling[1], together[-1])
        cache.advance(1)
