"""The self-drafter: a chain first, its siblings as leaves, and a cache left as it was."""

import pytest
import torch
from decoding_runs import Recorder, new_state
from tiny_models import make_prompt, tiny_engine
from torch import Tensor

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.decoding.loop import prefill
from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.token_tree import MAX_NODES, TokenTree
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.model.draft_plan import DraftPlan

PROMPT = make_prompt(8)


def propose(
    draft: DraftConfig, engine: Engine | None = None, **options: object
) -> tuple[TokenTree, DecodingState]:
    engine = engine or tiny_engine()
    state = new_state(engine, PROMPT, Recorder(), **{"max_new_tokens": 50, **options})
    prefill(engine.target, state)
    with torch.inference_mode():
        return engine.drafter(draft).propose(state), state


@torch.inference_mode()
def draft_logits(skip_set: SkipSet, token_ids: list[int]) -> Tensor:
    """The draft's logits after `PROMPT` and each of `token_ids`, computed in another way."""
    target = tiny_engine().target
    view = target.draft_view(DraftPlan(skip_set))
    cache = target.new_cache(64)
    target.prefill(cache, PROMPT[:-1])
    rows = [PROMPT[-1], *token_ids]
    return view.forward(cache, rows, tuple(tuple(range(i + 1)) for i in range(len(rows))))


def test_chain_is_greedy_decoding_of_the_draft() -> None:
    """Guards against a chain whose rows do not see each other, or that repeats a position."""
    skip_set = SkipSet((1, 3), (2,))
    tree, _ = propose(DraftConfig.chain(6, skip_set=skip_set))
    assert tree.parents == (-1, 0, 1, 2, 3, 4, 5)
    assert tree.token_ids[0] == PROMPT[-1]
    chain = list(tree.token_ids[1:])
    assert draft_logits(skip_set, chain[:-1]).argmax(dim=1).tolist() == chain


def test_siblings_are_the_runners_up() -> None:
    """Guards against siblings of the wrong parent, and a drafted token among its own siblings."""
    skip_set = SkipSet((2,), (2,))
    draft = DraftConfig(
        skip_set=skip_set, stop_confidence=0.0, max_draft_steps=3, sibling_counts=((1.0, 4),)
    )
    tree, _ = propose(draft)
    assert tree.parents == (-1, 0, 1, 2, 0, 0, 0, 1, 1, 1, 2, 2, 2)
    top = draft_logits(skip_set, list(tree.token_ids[1:3])).topk(4, dim=1).indices.tolist()
    for parent, best in enumerate(top):
        children = [t for t, p in zip(tree.token_ids, tree.parents, strict=True) if p == parent]
        assert children == best


def test_siblings_take_the_room_that_the_chain_leaves() -> None:
    """Guards against a tree of more rows than have the same bits in any company."""
    draft = DraftConfig(stop_confidence=0.0, max_draft_steps=20, sibling_counts=((1.0, 4),))
    tree, _ = propose(draft)
    assert len(tree.token_ids) == MAX_NODES
    assert tree.parents[:21] == tuple(range(-1, 20))
    assert tree.parents[21:] == (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3)


def test_confidence_stops_the_draft_after_the_unsure_token() -> None:
    """Guards against early stopping that drops the token it stopped at, or goes on."""
    chain, _ = propose(DraftConfig.chain(12))
    probabilities = draft_logits(
        tiny_engine().target.uniform_skip_set(0.45), list(chain.token_ids[1:-1])
    ).softmax(dim=1)
    confidences = probabilities.max(dim=1).values.tolist()
    threshold = sorted(confidences)[3]
    first = next(i for i, confidence in enumerate(confidences) if confidence < threshold)
    draft = DraftConfig(stop_confidence=threshold, max_draft_steps=12, sibling_counts=())
    tree, _ = propose(draft)
    assert tree.token_ids == chain.token_ids[: first + 2]


def test_number_of_siblings_follows_the_confidence() -> None:
    """Guards against siblings where the draft is sure, and none where it is not."""
    sure, _ = propose(DraftConfig(stop_confidence=0.0, max_draft_steps=4, sibling_counts=()))
    assert len(sure.token_ids) == 5
    never, _ = propose(
        DraftConfig(stop_confidence=0.0, max_draft_steps=4, sibling_counts=((0.0, 9),))
    )
    assert never.token_ids == sure.token_ids
    always, _ = propose(
        DraftConfig(stop_confidence=0.0, max_draft_steps=4, sibling_counts=((1.0, 3),))
    )
    assert len(always.token_ids) == 5 + 4 * 2


@pytest.mark.parametrize("room", [1, 2, 5])
def test_draft_is_no_deeper_than_what_is_wanted(room: int) -> None:
    """Guards against tokens drafted for nothing at the end of the output."""
    tree, _ = propose(DraftConfig.chain(9), max_new_tokens=room)
    assert tree.depth == room - 1


def test_cache_is_as_before() -> None:
    """Guards against drafted rows that count as verified."""
    _, state = propose(DraftConfig.chain(5))
    assert state.cache.length == len(PROMPT) - 1
    assert state.token_ids == PROMPT


def test_cache_is_as_before_when_drafting_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a drafter that is interrupted and leaves its rows behind."""
    engine = tiny_engine()
    drafter = engine.drafter(DraftConfig.chain(5))
    state = new_state(engine, PROMPT, Recorder(), max_new_tokens=20)
    prefill(engine.target, state)
    steps = iter(range(3))
    forward = drafter._view.forward

    def failing_forward(*args: object) -> Tensor:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return forward(*args)

    monkeypatch.setattr(drafter._view, "forward", failing_forward)
    with pytest.raises(KeyboardInterrupt), torch.inference_mode():
        drafter.propose(state)
    assert state.cache.length == len(PROMPT) - 1


def test_forbidden_tokens_are_not_proposed() -> None:
    """Guards against siblings that top-k ruled out: they could never be chosen."""
    draft = DraftConfig(stop_confidence=0.0, max_draft_steps=3, sibling_counts=((1.0, 8),))
    tree, _ = propose(draft, temperature=1.0, top_k=2)
    assert len(tree.token_ids) == 1 + 3 + 3


def test_drafts_with_the_noise_of_the_request() -> None:
    """Guards against a sampled request that is drafted greedily."""
    greedy, _ = propose(DraftConfig.chain(6))
    sampled = [
        propose(DraftConfig.chain(6), temperature=1.5, seed=seed)[0].token_ids for seed in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1]
    assert len({greedy.token_ids, *sampled}) == 3


def test_no_drafter_proposes_the_root() -> None:
    """Guards against vanilla decoding that drafts."""
    state = new_state(tiny_engine(), PROMPT, Recorder(), max_new_tokens=5)
    assert NoDrafter().propose(state) == TokenTree.root_only(PROMPT[-1])
