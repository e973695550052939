"""The tiny models are worth testing with: varied output, drafts that are right now and then."""

import pytest
import torch
from decoding_runs import decode
from tiny_models import DRAFTS, FAMILIES, PROMPT, tiny_engine


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_is_varied(family: str, dtype: torch.dtype) -> None:
    """Guards against exactness tests on a model that writes one token for ever."""
    run = decode(tiny_engine(family, dtype), PROMPT, "off", max_new_tokens=24)
    assert len(set(run.sink.token_ids)) >= 12


def test_drafts_are_accepted_and_rejected() -> None:
    """Guards against exactness tests whose drafts are never kept, or never refused."""
    for name in ("chain", "tree", "wide tree"):
        stats = decode(tiny_engine(), PROMPT, DRAFTS[name], max_new_tokens=20).state.stats
        assert 0 < stats.acceptance_rate < 1


def test_siblings_are_accepted() -> None:
    """Guards against trees of which only ever the main chain is kept."""
    run = decode(tiny_engine(), PROMPT, DRAFTS["wide tree"], max_new_tokens=20)
    chains = [tuple(range(len(r.accepted))) for r in run.rounds]
    assert any(r.accepted != chain for r, chain in zip(run.rounds, chains, strict=True))
