"""Committing a round: what is kept, and why a generation ends."""

import pytest
import torch
from decoding_runs import Recorder
from transformers import LogitsProcessorList

from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.model.cache.kv_cache import KVCache


def make_state(
    *,
    max_new_tokens: int = 10,
    eos: tuple[int, ...] = (),
    max_context: int | None = None,
    stop_after: int | None = None,
) -> DecodingState:
    cache = KVCache(1, 32)
    rows = torch.arange(20.0).view(1, 1, 20, 1)
    cache.layers[0].update(rows, rows)
    cache.advance(2)
    return DecodingState(
        token_ids=[1, 2, 3],
        cache=cache,
        chooser=Chooser(LogitsProcessorList(), seed=None),
        sink=Recorder(stop_after),
        max_new_tokens=max_new_tokens,
        eos_token_ids=frozenset(eos),
        max_context=max_context,
    )


def tokens(*token_ids: int) -> list[NewToken]:
    """New tokens of one round: all drafted, but the last."""
    last = len(token_ids) - 1
    return [
        NewToken(t, "model" if i != last else "target", torch.zeros(4))
        for i, t in enumerate(token_ids)
    ]


def test_commit_keeps_the_rows_of_the_path() -> None:
    """Guards against the row of a token that is missing, or that of the bonus token kept."""
    state = make_state()
    state.commit(tokens(10, 11, 12), (0, 2, 5))
    assert state.token_ids == [1, 2, 3, 10, 11, 12]
    assert state.cache.length == 5
    assert state.cache.layers[0].buffers[0][0, 0, :5, 0].tolist() == [0, 1, 2, 4, 7]
    assert (state.stats.num_new_tokens, state.stats.num_accepted) == (3, 2)
    assert state.finish_reason is None


@pytest.mark.parametrize(
    ("limits", "num_kept", "reason"),
    [
        ({"eos": (11,)}, 2, "eos"),
        ({"eos": (10, 12)}, 1, "eos"),
        ({"stop_after": 2}, 2, "stop"),
        ({"max_new_tokens": 2}, 2, "length"),
        ({"max_context": 5}, 2, "context"),
        ({"max_new_tokens": 2, "eos": (11,)}, 2, "eos"),
        ({"max_new_tokens": 2, "stop_after": 2}, 2, "stop"),
        ({"max_new_tokens": 2, "max_context": 5}, 2, "length"),
    ],
)
def test_a_round_is_cut_where_the_generation_ends(
    limits: dict[str, object], num_kept: int, reason: str
) -> None:
    """Guards against tokens, rows, counts or sink calls behind the end."""
    state = make_state(**limits)
    state.commit(tokens(10, 11, 12), (0, 1, 2))
    assert state.finish_reason == reason
    assert state.is_finished
    assert state.token_ids == [1, 2, 3, 10, 11, 12][: 3 + num_kept]
    assert state.cache.length == len(state.token_ids) - 1
    assert state.stats.num_new_tokens == state.stats.num_accepted == num_kept
    assert len(state.sink.tokens) == num_kept


def test_room_for_a_draft() -> None:
    """Guards against drafting what could only be cut off: the bonus token needs a place too."""
    assert make_state(max_new_tokens=1).max_draft_depth == 0
    assert make_state(max_new_tokens=5).max_draft_depth == 4
    assert make_state(max_new_tokens=50, max_context=6).max_draft_depth == 2
    state = make_state(max_new_tokens=5)
    state.commit(tokens(10, 11), (0, 1))
    assert state.max_draft_depth == 2
