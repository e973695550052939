"""Our own attention kernel: the right numbers, and a row's bits whatever its company."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from tree_strategies import parent_lists

from selfdraft.decoding.token_tree import TokenTree
from selfdraft.model.attention import attention_kernel
from selfdraft.model.attention.row_paths import Path, RowPaths

needs_kernel = pytest.mark.skipif(
    not attention_kernel.is_there(), reason="no kernel: no C compiler at install, or no AVX512"
)
States = tuple[Tensor, Tensor, Tensor]


def make_states(
    num_prefix: int, num_rows: int, *, group: int = 3, key_dim: int = 32, value_dim: int = 32
) -> States:
    """Keys and values of two heads as they lie in a cache, and queries as a model makes them."""
    generator = torch.Generator().manual_seed(97 * num_prefix + num_rows)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(torch.bfloat16)

    num_keys = num_prefix + num_rows
    return (
        2 * random(1, num_rows, 2 * group, key_dim).transpose(1, 2),
        random(1, 2, num_keys + 5, key_dim)[:, :, :num_keys],
        random(1, 2, num_keys + 5, value_dim)[:, :, :num_keys],
    )


def attend(states: States, paths: tuple[Path, ...], starts: tuple[int, ...]) -> Tensor:
    assert attention_kernel.can_attend(*states)
    return attention_kernel.attend(*states, starts, RowPaths(paths, rowwise=True), None)


def seen_by(path: Path, num_prefix: int, start: int) -> list[int]:
    """Positions in the cache that a row sees."""
    behind = [num_prefix + row for d, row in enumerate(path) if num_prefix + d >= start]
    return [*range(start, num_prefix), *behind]


@needs_kernel
@given(
    parents=parent_lists(),
    num_prefix=st.sampled_from([0, 1, 15, 16, 70]),
    group=st.integers(1, 9),
    dims=st.sampled_from([(16, 16), (64, 64), (80, 48), (128, 128)]),
    window=st.sampled_from([None, 1, 2, 40]),
)
def test_each_row_is_the_attention_on_what_it_sees(
    parents: tuple[int, ...],
    num_prefix: int,
    group: int,
    dims: tuple[int, int],
    window: int | None,
) -> None:
    """Guards against a wrong head, a wrong key, a neighbour's key, or rounding on the way."""
    paths = TokenTree((0,) * len(parents), parents).paths
    ends = [num_prefix + depth + 1 for depth in range(len(parents))]
    starts = tuple(0 if window is None else max(0, end - window) for end in ends)
    states = make_states(num_prefix, len(parents), group=group, key_dim=dims[0], value_dim=dims[1])
    attended = attend(states, paths, starts)
    query, key, value = (state.double() for state in states)
    for row, path in enumerate(paths):
        seen = seen_by(path, num_prefix, starts[len(path) - 1])
        expected = scaled_dot_product_attention(
            query[:, :, row : row + 1], key[:, :, seen], value[:, :, seen], enable_gqa=True
        )
        # One rounding to bfloat16, at most 2 ** -8 of the number, and float32's own.
        torch.testing.assert_close(
            attended[0, row].double(), expected[0, :, 0], rtol=1.01 * 2**-8, atol=1e-5
        )


@needs_kernel
@given(parents=parent_lists(), num_prefix=st.sampled_from([0, 3, 16, 130]))
def test_a_rows_bits_do_not_depend_on_its_company(
    parents: tuple[int, ...], num_prefix: int
) -> None:
    """Guards contract L2: verified as a node of a tree, a token is what it is decoded alone."""
    paths = TokenTree((0,) * len(parents), parents).paths
    states = make_states(num_prefix, len(parents))
    together = attend(states, paths, (0,) * len(parents))
    query, key, value = states
    for row, path in enumerate(paths):
        # Decoded one by one, the rows before it would be cached.
        seen = seen_by(path, num_prefix, 0)
        alone = attend(
            (query[:, :, row : row + 1], key[:, :, seen], value[:, :, seen]), ((0,),), (0,)
        )
        assert torch.equal(alone[0, 0], together[0, row])


@needs_kernel
def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against two threads that share a row's scores, or a row that is split."""
    paths = TokenTree((0,) * 9, (-1, 0, 1, 1, 1, 2, 2, 3, 3)).paths
    states = make_states(600, 9)
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(attend(states, paths, (0,) * 9))
    assert all(torch.equal(result, results[0]) for result in results)


@needs_kernel
def test_padding_is_a_copy_of_the_last_row() -> None:
    """Guards against padding rows of uninitialised memory, whose NaN would reach the cache."""
    states = make_states(20, 4)
    attended = attend(states, ((0,), (0, 1)), (0, 0))
    assert torch.equal(attended[0, 2], attended[0, 1])
    assert torch.equal(attended[0, 3], attended[0, 1])


@needs_kernel
def test_rows_that_nobody_may_see_are_not_read() -> None:
    """Guards against reading what lies behind the rows, where there may be a NaN."""
    query, key, value = make_states(20, 3)
    clean = attend((query, key, value), ((0,), (0, 1), (0, 2)), (5, 5))
    for states in (key, value):
        states[:, :, :5] = torch.nan
        states[:, :, 21] = torch.nan
    attended = attend((query, key, value), ((0,), (0, 1), (0, 2)), (5, 5))
    assert torch.equal(attended[0, 0], clean[0, 0])
    assert torch.equal(attended[0, 2], clean[0, 2])
    assert attended[0, 1].isnan().all()


@needs_kernel
def test_scores_far_apart_do_not_overflow() -> None:
    """Guards against an exponential of a large score, or of one that is hopelessly small."""
    query, key, value = make_states(40, 1)
    attended = attend((100 * query, 100 * key, value), ((0,),), (0,))
    expected = scaled_dot_product_attention(
        100 * query.double(), 100 * key.double(), value.double(), enable_gqa=True
    )
    torch.testing.assert_close(attended[0, 0].double(), expected[0, :, 0], rtol=0.01, atol=0.01)


def test_other_states_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against float32, odd head sizes, or memory that is laid out in another way."""
    states = make_states(4, 2)
    odd = make_states(4, 2, key_dim=24)
    strided = tuple(state.transpose(2, 3).contiguous().transpose(2, 3) for state in states)
    assert not attention_kernel.can_attend(*(state.float() for state in states))
    assert not attention_kernel.can_attend(*odd)
    assert not attention_kernel.can_attend(*strided)
    monkeypatch.setattr(attention_kernel, "_kernel", lambda: None)
    assert not attention_kernel.can_attend(*states)
