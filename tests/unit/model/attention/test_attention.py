"""Attention over a tree: one row at a time, or all rows with a mask; both are the same function."""

import pytest
import torch
from decoding_runs import decode
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import DRAFTS, make_prompt, tiny_model
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from tree_strategies import parent_lists

from selfdraft import Engine
from selfdraft.decoding.token_tree import TokenTree
from selfdraft.errors import UnsupportedModelError
from selfdraft.model.attention import row_attention
from selfdraft.model.attention.interface import path_attention
from selfdraft.model.attention.row_paths import RowPaths


class _Module(nn.Module):
    """What transformers' attention wants to know of the module that calls it."""

    num_key_value_groups = 2
    is_causal = True


def make_states(num_prefix: int, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of 4 heads, keys and values of 2, of dimensions 8 and 6."""
    torch.manual_seed(num_prefix * 100 + num_rows)
    num_keys = num_prefix + num_rows
    return (
        torch.randn(1, 4, num_rows, 8),
        torch.randn(1, 2, num_keys, 8),
        torch.randn(1, 2, num_keys, 6),
    )


def attend(states: tuple[Tensor, Tensor, Tensor], row_paths: RowPaths) -> Tensor:
    return path_attention(_Module(), *states, None, row_paths=row_paths)[0]


def paths_of(parents: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return TokenTree((0,) * len(parents), parents).paths


@given(parents=parent_lists(), num_prefix=st.sampled_from([0, 1, 9]))
def test_both_ways_agree_on_any_tree(parents: tuple[int, ...], num_prefix: int) -> None:
    """Guards against GPUs, which use the mask, computing something else than CPUs."""
    states, paths = make_states(num_prefix, len(parents)), paths_of(parents)
    by_row = attend(states, RowPaths(paths, rowwise=True))
    masked = attend(states, RowPaths(paths, rowwise=False))
    torch.testing.assert_close(by_row, masked, atol=1e-5, rtol=1e-5)


@given(parents=parent_lists(), num_prefix=st.sampled_from([0, 3]))
def test_rows_are_put_back(parents: tuple[int, ...], num_prefix: int) -> None:
    """Guards against the cache keeping the order of the last row's path."""
    states, paths = make_states(num_prefix, len(parents)), paths_of(parents)
    before = [state.clone() for state in states]
    attend(states, RowPaths(paths, rowwise=True))
    assert all(torch.equal(state, kept) for state, kept in zip(states, before, strict=True))


@pytest.mark.parametrize("rowwise", [True, False])
def test_a_row_sees_the_prefix_and_its_path_alone(rowwise: bool) -> None:
    """Guards against a row that sees a sibling, its own child, or the padding."""
    paths = ((0,), (0, 1), (0, 1, 2), (0, 3), (0, 3, 4))
    query, key, value = make_states(6, len(paths))
    attended = attend((query, key.clone(), value.clone()), RowPaths(paths, rowwise))
    for row, path in enumerate(paths):
        seen = [*range(6), *(6 + offset for offset in path)]
        expected = scaled_dot_product_attention(
            query[:, :, row : row + 1], key[:, :, seen], value[:, :, seen], enable_gqa=True
        )
        torch.testing.assert_close(attended[0, row], expected[0, :, 0])


def test_padding_is_a_copy_of_the_last_row() -> None:
    """Guards against padding rows that read uninitialised memory."""
    query, key, value = make_states(3, 2)
    query[:, :, 1] = query[:, :, 0]
    attended = attend((query, key, value), RowPaths(((0,),), rowwise=True))
    assert torch.equal(attended[0, 1], attended[0, 0])
    assert attended[0, 0].abs().sum() > 0


def test_scaling_is_used() -> None:
    """Guards against models whose scale is not one over the root of the head size."""
    states = make_states(5, 1)
    paths = RowPaths(((0,),), rowwise=True)
    plain, _ = path_attention(_Module(), *states, None, row_paths=paths)
    flat, _ = path_attention(_Module(), *states, None, row_paths=paths, scaling=1e-9)
    mean = states[2].mean(dim=2).repeat_interleave(2, dim=1)[0]
    torch.testing.assert_close(flat[0, 0], mean)
    assert not torch.allclose(plain, flat)


def test_prefill_is_causal() -> None:
    """Guards against a prompt whose tokens see the future."""
    query, key, value = make_states(0, 5)
    attended, _ = path_attention(_Module(), query, key, value, None)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(attended, expected.transpose(1, 2))


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_attention_that_only_the_model_can_compute_needs_its_code(name: str) -> None:
    """Guards against a cap, a sink or a bias that is silently left out."""
    with pytest.raises(UnsupportedModelError, match="eager_attention_forward"):
        path_attention(
            _Module(), *make_states(2, 1), None, row_paths=RowPaths(((0,),), True), **{name: 4}
        )


def test_rows_need_no_shared_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against the path of machines on which a row's bits depend on the rows of its call."""
    parents = (-1, 0, 1, 0, 3, 1)
    states, paths = make_states(70, len(parents)), paths_of(parents)
    shared = attend(states, RowPaths(paths, rowwise=True))
    monkeypatch.setattr(row_attention, "rows_share_calls", lambda *_: False)
    apart = attend(states, RowPaths(paths, rowwise=True))
    torch.testing.assert_close(apart, shared, atol=1e-5, rtol=1e-5)


@given(parents=parent_lists(), group=st.sampled_from([1, 3, 7]))
def test_no_tile_is_small(parents: tuple[int, ...], group: int) -> None:
    """Guards against a few query rows at the end of a call, which another kernel would compute."""
    query = torch.zeros(1, group, len(parents), 8)
    starts = (0,) * len(parents)
    plan = RowPaths(paths_of(parents), rowwise=True).plan(60, starts, group, query, is_shared=True)
    assert all(call.mask.shape[2] % 32 in (0, *range(4, 32)) for call in plan.calls)
    assert sorted(row for call in plan.calls for row in call.rows) == list(range(len(parents)))


@pytest.mark.parametrize("window", [None, 3, 9])
@pytest.mark.parametrize("name", ["wide tree", "everything skipped"])
def test_masked_decoding_writes_the_same(name: str, window: int | None) -> None:
    """Guards against a GPU path that no test without a GPU ever runs, sliding windows included."""
    engine = Engine(tiny_model("mistral", sliding_window=window))
    expected = decode(engine, make_prompt(9), "off", max_new_tokens=10).sink
    engine.target._rowwise = False
    run = decode(engine, make_prompt(9), DRAFTS[name], max_new_tokens=10)
    assert run.sink.token_ids == expected.token_ids
    torch.testing.assert_close(run.sink.logits, expected.logits, atol=1e-4, rtol=1e-4)
