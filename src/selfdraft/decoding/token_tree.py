"""A token tree: what a drafter proposes, and what the target checks in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Source = Literal["target", "model", "text", "earlier", "recycled"]
"""Who named a token first: the target itself, its draft (the model made cheaper), a copy from this
request's text or from that of an earlier request, or recycled runners-up."""

MAX_NODES = 32
"""Most nodes of a tree, the root included.

Up to so many rows in a pass a row has the same bits in any company (contract L2). From 33 rows on
oneDNN multiplies in another way on CPUs with AMX, and a row has other bits.
"""

Path = tuple[int, ...]
"""Nodes from the root down, each the child of the one before it."""


@dataclass(frozen=True)
class TokenTree:
    """Tokens that may come next, as a tree. Node 0, the root, is the last token of the sequence.

    `parents[i]` is the parent of node i and comes before it; the root's is -1. Nodes of the main
    chain should come first, in order: the cache then holds them as the next tokens already.
    `sources[i]` is who named node i; without any, the model's draft named all but the root.
    """

    token_ids: tuple[int, ...]
    parents: tuple[int, ...]
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.parents) >= 1, "one parent for every node"
        assert len(self.token_ids) <= MAX_NODES, "so many rows have the same bits as fewer"
        assert self.parents[0] == -1, "node 0 is the root"
        assert len(self.sources) in (0, len(self.parents)), "a source for every node, or none"
        assert all(0 <= p < i for i, p in enumerate(self.parents[1:], start=1)), "parents first"

    @classmethod
    def root_only(cls, token_id: int) -> "TokenTree":
        """The tree that proposes nothing: plain decoding."""
        return cls((token_id,), (-1,))

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """For each node, the nodes from the root to it, both included."""
        paths: list[Path] = []
        for node, parent in enumerate(self.parents):
            paths.append((*paths[parent], node) if parent >= 0 else (node,))
        return tuple(paths)

    @property
    def depth(self) -> int:
        """Drafted positions: nodes below the root on the longest path."""
        return max(len(path) for path in self.paths) - 1

    def source(self, node: int) -> Source:
        """Who named the token of a node below the root."""
        return self.sources[node] if self.sources else "model"

    def drafted_tokens(self, path: Path) -> tuple[int, ...]:
        """The tokens of `path` below the root."""
        return tuple(self.token_ids[node] for node in path[1:])

    def follow(self, choices: Sequence[int]) -> Path:
        """Longest path from the root on which every node is the target's choice after its parent.

        The target writes this path with or without a draft, so keeping it changes nothing
        (docs/contract.md, D1). `choices[i]` is the target's own next token after node i.
        """
        child = {
            (parent, token): node
            for node, (parent, token) in enumerate(zip(self.parents, self.token_ids, strict=True))
        }
        path = [0]
        while (node := child.get((path[-1], choices[path[-1]]))) is not None:
            path.append(node)
        return tuple(path)
