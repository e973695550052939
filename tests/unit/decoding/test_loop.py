"""The loop: rounds, their bookkeeping, and what a bad drafter can do."""

import pytest
from decoding_runs import PlannedDrafter, Recorder, decode, new_state
from tiny_models import DRAFTS, make_prompt, tiny_engine

from selfdraft.decoding.loop import Round, speculate
from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.token_tree import TokenTree

PROMPT = make_prompt(5)


def test_vanilla_is_one_token_a_round() -> None:
    """Guards against counting the prompt's last pass, or a draft that is not there."""
    run = decode(tiny_engine(), PROMPT, "off", max_new_tokens=6)
    stats = run.state.stats
    assert (stats.num_rounds, stats.num_drafted, stats.num_accepted) == (6, 0, 0)
    assert stats.mean_accepted_length == 1.0
    assert stats.num_prompt_tokens == 5


@pytest.mark.parametrize("name", DRAFTS)
def test_counts_agree_with_the_rounds(name: str) -> None:
    """Guards against statistics that drift from what was proposed and kept."""
    run = decode(tiny_engine(), PROMPT, DRAFTS[name], max_new_tokens=12)
    stats = run.state.stats
    assert stats.num_rounds == len(run.rounds)
    assert stats.num_drafted == sum(r.tree.depth for r in run.rounds)
    assert stats.num_accepted == sum(len(r.accepted) - 1 for r in run.rounds)
    assert stats.num_new_tokens == len(run.sink.tokens) == 12
    assert stats.num_accepted == sum(token.from_draft for token in run.sink.tokens)
    seconds = stats.draft_seconds + stats.verify_seconds
    assert 0 < seconds <= stats.decode_seconds


def test_trees_are_rooted_in_the_last_token() -> None:
    """Guards against a draft that continues another text than the target's."""
    run = decode(tiny_engine(), PROMPT, DRAFTS["tree"], max_new_tokens=12)
    position = len(PROMPT) - 1
    for finished in run.rounds:
        assert finished.tree.token_ids[0] == run.state.token_ids[position]
        position += len(finished.accepted)


def test_absurd_trees_cost_nothing_but_time() -> None:
    """Guards against a tree whose repeated tokens or odd shape reach the output."""
    expected = decode(tiny_engine(), PROMPT, "off", max_new_tokens=6).sink.token_ids
    trees = [([0] * 8, [0] * 8), (list(expected[1:2]) * 5, range(5)), ([5, 5, 5], [0, 1, 0])]
    sink = Recorder()
    state = new_state(tiny_engine(), PROMPT, sink, max_new_tokens=6)
    for _ in speculate(tiny_engine().target, PlannedDrafter(*trees), state):
        pass
    assert sink.token_ids == expected


class _Broken:
    """Fails after it has drafted a little."""

    def observe(self, state: DecodingState, outcome: Round) -> None:
        pass

    def propose(self, state: DecodingState) -> TokenTree:
        raise RuntimeError("no more ideas")


def test_a_drafter_that_fails_is_not_hushed_up() -> None:
    """Guards against errors that are swallowed, and a state that is half changed."""
    state = new_state(tiny_engine(), PROMPT, Recorder(), max_new_tokens=6)
    with pytest.raises(RuntimeError, match="no more ideas"):
        list(speculate(tiny_engine().target, _Broken(), state))
    assert state.token_ids == PROMPT
    assert state.cache.length == len(PROMPT) - 1
