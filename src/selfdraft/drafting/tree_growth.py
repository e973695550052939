"""Growing a token tree: the likeliest paths first, as long as a row is worth its price."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from selfdraft.decoding.token_tree import Source, TokenTree
from selfdraft.drafting.calibration import Candidate
from selfdraft.drafting.draft_memory import DraftMemory
from selfdraft.drafting.draft_steps import DraftStep
from selfdraft.drafting.free.free_drafts import FreeDrafts, Place
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
    source: Source
    """Who named the token."""


Children = Callable[[Node], Iterable[tuple[int, float, Source]]]
"""Tokens that may follow a node, each with its probability if the node is right, and who named
it."""


def grow(
    root: Node,
    children: Children,
    join: Callable[[Node, int, int, float, Source], Node],
    prices: Prices,
    *,
    max_depth: int,
    is_chain: bool,
) -> list[Node]:
    """The nodes that are worth most together, parents first; the root is the first.

    `join(parent, parent_index, token_id, probability, source)` makes a node. With `is_chain` every
    node is the child of the one before it.
    """
    nodes = [root]
    taken: set[tuple[int, int]] = set()
    # (-probability, order, parent, token, source)
    open_: list[tuple[float, int, int, int, Source]] = []
    order = num_best = 0
    worth = best_worth = 0.0

    def push_children(index: int) -> None:
        nonlocal order
        node = nodes[index]
        if node.depth >= max_depth:
            return
        for token_id, probability, source in children(node):
            order += 1
            heappush(open_, (-node.probability * probability, order, index, token_id, source))

    push_children(0)
    num_best = 1
    while open_ and len(nodes) < min(prices.max_rows, num_best + _PATIENCE):
        negative, _, parent, token_id, source = heappop(open_)
        if (parent, token_id) in taken or (is_chain and parent != len(nodes) - 1):
            continue
        taken.add((parent, token_id))
        worth += -negative - prices.row(len(nodes))
        nodes.append(join(nodes[parent], parent, token_id, -negative, source))
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
        sources=tuple(nodes[index].source for index in ordering),
    )
    return tree, [nodes[index] for index in ordering]


class Growth:
    """What may follow each node of the tree of one round."""

    def __init__(self, memory: DraftMemory, free: FreeDrafts, steps: tuple[DraftStep, ...]) -> None:
        self._calibration = memory.calibration
        self._free = free
        self._steps = steps

    def children(self, node: Node) -> list[tuple[int, float, Source]]:
        """Where the self-draft was asked, what it said; elsewhere what comes for nothing."""
        return [(c.token_id, self._calibration.of(c), c.source) for c in self._candidates(node)]

    def join(
        self, parent: Node, parent_index: int, token_id: int, probability: float, source: Source
    ) -> Node:
        """The node of `token_id` under `parent`."""
        index = parent.chain_index
        is_drafted = (
            index is not None
            and index < len(self._steps)
            and self._steps[index].candidates[0].token_id == token_id
        )
        return Node(
            token_id,
            parent_index,
            parent.depth + 1,
            probability,
            self._free.after(parent.place, token_id),
            index + 1 if index is not None and is_drafted else None,
            source,
        )

    def _candidates(self, node: Node) -> tuple[Candidate, ...] | list[Candidate]:
        if node.chain_index is not None and node.chain_index < len(self._steps):
            return self._steps[node.chain_index].candidates
        return self._free.candidates(node.place)
