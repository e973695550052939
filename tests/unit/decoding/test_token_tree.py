"""A token tree: its paths, and the walk that the target's choices take through it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_strategies import parent_lists

from selfdraft.decoding.token_tree import TokenTree

FORK = TokenTree(token_ids=(9, 1, 2, 3, 4, 5), parents=(-1, 0, 1, 0, 3, 3))


def test_paths_and_depth() -> None:
    """Guards against paths that leave out the root or the node itself."""
    assert FORK.paths == ((0,), (0, 1), (0, 1, 2), (0, 3), (0, 3, 4), (0, 3, 5))
    assert FORK.depth == 2
    assert FORK.drafted_tokens((0, 3, 5)) == (3, 5)


def test_root_alone() -> None:
    """Guards against a tree that cannot propose nothing."""
    tree = TokenTree.root_only(7)
    assert (tree.token_ids, tree.paths, tree.depth) == ((7,), ((0,),), 0)
    assert tree.follow([7]) == (0,), "the target may write the root's token again"


@pytest.mark.parametrize(
    ("choices", "path"),
    [
        ([8, 0, 0, 0, 0, 0], (0,)),
        ([1, 8, 0, 0, 0, 0], (0, 1)),
        ([1, 2, 8, 0, 0, 0], (0, 1, 2)),
        ([3, 2, 0, 5, 0, 8], (0, 3, 5)),
        ([2, 0, 0, 0, 0, 0], (0,)),
    ],
)
def test_follow_takes_children_only(choices: list[int], path: tuple[int, ...]) -> None:
    """Guards against a token that is kept because it stands elsewhere in the tree."""
    assert FORK.follow(choices) == path


@pytest.mark.parametrize(
    ("token_ids", "parents"),
    [((), ()), ((1,), (0,)), ((1, 2), (-1, 1)), ((1, 2), (-1, -1)), ((1, 2), (-1,))],
)
def test_malformed_tree(token_ids: tuple[int, ...], parents: tuple[int, ...]) -> None:
    """Guards against a child before its parent, a second root, or a node without a parent."""
    with pytest.raises(AssertionError):
        TokenTree(token_ids, parents)


@st.composite
def trees_and_choices(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int], list[int]]:
    parents = draw(parent_lists())
    tokens = st.lists(st.integers(0, 3), min_size=len(parents), max_size=len(parents))
    return parents, draw(tokens), draw(tokens)


@given(trees_and_choices())
def test_follow_keeps_what_the_target_would_write(
    tree_and_choices: tuple[tuple[int, ...], list[int], list[int]],
) -> None:
    """Guards against a path that stops early, or goes on where the target chose otherwise."""
    parents, token_ids, choices = tree_and_choices
    tree = TokenTree(tuple(token_ids), parents)
    path = tree.follow(choices)
    assert path in tree.paths
    for parent, node in itertools.pairwise(path):
        assert token_ids[node] == choices[parent]
    wanted = choices[path[-1]]
    children = [node for node, parent in enumerate(parents) if parent == path[-1]]
    assert all(token_ids[child] != wanted for child in children)


@given(parent_lists())
def test_paths_lead_from_the_root_to_the_node(parents: tuple[int, ...]) -> None:
    """Guards against paths that skip a generation."""
    tree = TokenTree(tuple(range(len(parents))), parents)
    for node, path in enumerate(tree.paths):
        assert (path[0], path[-1]) == (0, node)
        assert [parents[below] for below in path[1:]] == list(path[:-1])
    assert tree.depth == max(map(len, tree.paths)) - 1
