"""The table of successors: the target's own runners-up, kept for the next time."""

import torch

from selfdraft.drafting.free.recycling import SuccessorTable


def logits(*best: int, vocab_size: int = 20) -> torch.Tensor:
    """One row that prefers the given tokens in the given order, one logit apart."""
    row = torch.full((1, vocab_size), -10.0)
    for rank, token_id in enumerate(best):
        row[0, token_id] = 5.0 - rank
    return row


def test_successors_are_the_best_tokens_of_the_last_time() -> None:
    """Guards against successors of another token, in another order, or of an older time."""
    table = SuccessorTable()
    table.learn([(1, 2)], logits(7, 8, 9))
    table.learn([(1, 2)], logits(5, 6, 4))
    found = table.after(1, 2)
    assert found is not None
    assert found.token_ids[:3] == (5, 6, 4)
    assert found.gaps[:3] == (1, 1, 2)
    assert table.after(2, 1) is None


def test_a_known_pair_says_more_than_its_last_token() -> None:
    """Guards against the pair being overwritten by what follows the token elsewhere."""
    table = SuccessorTable()
    table.learn([(1, 2)], logits(7))
    table.learn([(3, 2)], logits(8))
    pair, single = table.after(1, 2), table.after(9, 2)
    assert pair is not None
    assert single is not None
    assert (pair.token_ids[0], pair.num_tokens) == (7, 2)
    assert (single.token_ids[0], single.num_tokens) == (8, 1)


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    """Guards against a server whose table grows for ever."""
    table = SuccessorTable(max_contexts=10)
    for token_id in range(100):
        table.learn([(token_id, token_id + 1)], logits(3))
    assert len(table) == 10
    assert table.after(99, 100) is not None
    assert table.after(0, 1) is None


def test_many_rows_cost_a_bounded_topk() -> None:
    """Guards against the table costing more than it saves on wide trees: only some rows count."""
    table = SuccessorTable()
    rows = torch.cat([logits(token_id) for token_id in range(20)])
    table.learn([(token_id, token_id) for token_id in range(20)], rows)
    assert table.after(0, 0) is None
    found = table.after(19, 19)
    assert found is not None
    assert found.token_ids[0] == 19


def test_a_vocabulary_of_few_tokens() -> None:
    """Guards against asking for more successors than there are tokens."""
    table = SuccessorTable()
    table.learn([(0, 1)], logits(1, vocab_size=2))
    found = table.after(0, 1)
    assert found is not None
    assert found.token_ids == (1, 0)
