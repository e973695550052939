"""Growing a token tree: the likeliest paths first, as long as a row is worth its price."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from selfdraft.decoding.token_tree import TokenTree
from selfdraft.drafting.free_drafts import Place
from selfdraft.drafting.prices import Prices

# Nodes that are tried past the best size so far: passes get dearer in steps, not row by row.
_PATIENCE = 6


@dataclass(frozen=True, slots=True)
class Node:
    """A node that may join the tree."""

    token_id: int
    parent: int
    depth: int
    probability: float
    """Of the whole path from the root to this node."""
    place: Place
    """The place after the node."""
    chain_index: int | None
    """How many drafted tokens lead here, if nothing else does."""


Children = Callable[[Node], Iterable[tuple[int, float]]]
"""Tokens that may follow a node, each with its probability if the node is right."""


def grow(
    root: Node,
    children: Children,
    join: Callable[[Node, int, int, float], Node],
    prices: Prices,
    *,
    max_depth: int,
    is_chain: bool,
) -> list[Node]:
    """The nodes that are worth most together, parents first; the root is the first.

    `join(parent, parent_index, token_id, probability)` makes a node. With `is_chain` every node is
    the child of the one before it.
    """
    nodes = [root]
    taken: set[tuple[int, int]] = set()
    open_: list[tuple[float, int, int, int]] = []  # (-probability, order, parent, token)
    order = num_best = 0
    worth = best_worth = 0.0

    def push_children(index: int) -> None:
        nonlocal order
        node = nodes[index]
        if node.depth >= max_depth:
            return
        for token_id, probability in children(node):
            order += 1
            heappush(open_, (-node.probability * probability, order, index, token_id))

    push_children(0)
    num_best = 1
    while open_ and len(nodes) < min(prices.max_rows, num_best + _PATIENCE):
        negative, _, parent, token_id = heappop(open_)
        if (parent, token_id) in taken or (is_chain and parent != len(nodes) - 1):
            continue
        taken.add((parent, token_id))
        worth += -negative - prices.row(len(nodes))
        nodes.append(join(nodes[parent], parent, token_id, -negative))
        if worth > best_worth:
            best_worth, num_best = worth, len(nodes)
        push_children(len(nodes) - 1)
    return nodes[:num_best]


def main_path_first(nodes: list[Node]) -> tuple[TokenTree, list[Node]]:
    """The tree of the nodes, and the nodes in its order: the likeliest path is first.

    A path of first children is what the cache then holds already (see `TokenTree`).
    """
    best_child: dict[int, int] = {}
    for index, node in enumerate(nodes[1:], start=1):
        best_child.setdefault(node.parent, index)  # in rising order of improbability
    path = [0]
    while path[-1] in best_child:
        path.append(best_child[path[-1]])
    on_path = set(path)
    ordering = [*path, *(index for index in range(len(nodes)) if index not in on_path)]
    position = {index: place for place, index in enumerate(ordering)} | {-1: -1}
    tree = TokenTree(
        token_ids=tuple(nodes[index].token_id for index in ordering),
        parents=tuple(position[nodes[index].parent] for index in ordering),
    )
    return tree, [nodes[index] for index in ordering]
