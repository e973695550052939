"""Which keys each new row of a pass may see, and which rows can share one call of attention.

Contract L2 (docs/contract.md) wants a row's bits not to depend on the rows beside it. A call of
`scaled_dot_product_attention` keeps them if what it computes for a row is laid out in the same way
whatever the company. Two things must therefore be a function of the row alone:

- which keys the call covers: whole blocks of `KEY_BLOCK` rows, from the one that holds the first
  key that the row sees to the one that holds the row itself. A mask hides the rest of them;
- where each key lies: the row's own path in the slots behind the prefix, in its order.

So rows share a call if they need the same blocks, and their paths the same slots: all rows of a
chain, but for those that step into the next block.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfdraft.model.cache.kv_cache import KEY_BLOCK
from selfdraft.shapes import Queries

Path = tuple[int, ...]
"""New rows from the root of the tree to one of them, named by their offsets from the prefix."""


# torch's kernel splits many query rows into tiles of 32, 64 or 256 (from 192 and 768 rows on), and
# multiplies a tile of 1 or of 2 to 3 rows in another order than one of 4 and more.
_TILES = ((768, 256), (192, 64), (0, 32))
_MIN_TILE = 4


@dataclass(frozen=True, slots=True, eq=False)
class RowCall:
    """Rows that share one call, and the keys that it covers."""

    rows: tuple[int, ...]
    slots: Path
    """New rows that must lie in the first slots behind the prefix, in this order."""
    start: int
    end: int
    index: Tensor | None
    """`rows`, and copies of the last of them that fill up the kernel's tile; None: as they come."""
    mask: Tensor
    """Additive mask `[1, 1, group * len(index), end - start]`, in the type of the queries."""


@dataclass(frozen=True, slots=True, eq=False)
class CallPlan:
    """The calls of a pass, and how their results, one behind the other, become the new rows."""

    calls: tuple[RowCall, ...]
    order: Tensor | None
    """Where each new row is; None: they are in order."""
    is_in_place: bool
    """Whether all new rows can stay in the slots that they are written to."""


@dataclass(frozen=True, slots=True)
class RowPaths:
    """What each new row may see behind the prefix: the new rows from the root to itself.

    Rows beyond the last path are padding: copies of the row before them.
    """

    paths: tuple[Path, ...]
    rowwise: bool
    _made: dict[object, object] = field(default_factory=dict, compare=False)

    def plan(
        self,
        prefix_length: int,
        starts: tuple[int, ...],
        group: int,
        query: Queries,
        *,
        is_shared: bool,
    ) -> CallPlan:
        """How to compute the attention of the rows of `query`, of `group` heads per key head.

        `starts[d]` is the first key that a row at depth d sees. If not `is_shared`, every row has
        a call of its own. Layers that are alike share a plan.
        """
        key = (prefix_length, starts, group, is_shared)
        if key not in self._made:
            self._made[key] = self._new_plan(prefix_length, starts, group, query, is_shared)
        return self._made[key]  # type: ignore[return-value]

    def mask(self, prefix_length: int, starts: tuple[int, ...], device: torch.device) -> Tensor:
        """Boolean mask `[1, 1, rows, prefix_length + rows]`: True where a row may look.

        For a pass that computes all rows in one call.
        """
        key = (prefix_length, starts)
        if key not in self._made:
            self._made[key] = self._new_mask(prefix_length, starts).to(device)
        return self._made[key]  # type: ignore[return-value]

    def table(self, starts: tuple[int, ...]) -> Tensor:
        """A line for each path: the first key that its row sees, its length, and itself.

        Of shape `[paths, 2 + longest]`, in int32, for a kernel that takes each row by itself.
        """
        key = ("table", starts)
        if key not in self._made:
            longest = max(len(path) for path in self.paths)
            lines = [
                (starts[len(path) - 1], len(path), *path, *(0,) * (longest - len(path)))
                for path in self.paths
            ]
            self._made[key] = torch.tensor(lines, dtype=torch.int32)
        return self._made[key]  # type: ignore[return-value]

    def _new_plan(
        self,
        prefix_length: int,
        starts: tuple[int, ...],
        group: int,
        query: Queries,
        is_shared: bool,
    ) -> CallPlan:
        num_rows = query.shape[2]
        ends = [prefix_length + len(path) for path in self.paths]
        stretches = [(starts[len(path) - 1], e) for path, e in zip(self.paths, ends, strict=True)]
        calls = []
        for slots, members in self._by_slots(is_shared):
            by_blocks: dict[tuple[int, int], list[int]] = {}
            for row in members:
                by_blocks.setdefault(_blocks(*stretches[row]), []).append(row)
            for (start, end), rows in by_blocks.items():
                is_whole = len(rows) == len(self.paths)
                filled = rows + [rows[-1]] * (num_rows - len(rows) if is_whole else 0)
                while is_shared and _leaves_small_tile(group * len(filled)):
                    filled.append(rows[-1])
                is_as_it_comes = is_whole and len(filled) == num_rows
                index = None if is_as_it_comes else torch.tensor(filled, device=query.device)
                mask = _hiding([stretches[row] for row in filled], start, end, group, query)
                kept = filled[:num_rows] if is_whole else rows
                calls.append(RowCall(tuple(kept), slots, start, end, index, mask))
        found = [row for call in calls for row in call.rows]
        last = len(self.paths) - 1
        order = [found.index(min(row, last)) for row in range(num_rows)]
        is_ordered = len(calls) == 1 and len(found) == num_rows
        return CallPlan(
            tuple(calls),
            None if is_ordered else torch.tensor(order, device=query.device),
            all(call.slots == tuple(range(len(call.slots))) for call in calls),
        )

    def _by_slots(self, is_shared: bool) -> Iterator[tuple[Path, list[int]]]:
        """Rows whose paths are beginnings of one path; each row goes with the first that fits."""
        if not is_shared:
            yield from ((path, [row]) for row, path in enumerate(self.paths))
            return
        left = dict(enumerate(self.paths))
        while left:
            slots = self._longest_from(next(iter(left)))
            members = [row for row, path in left.items() if slots[: len(path)] == path]
            for row in members:
                del left[row]
            yield slots, members

    def _longest_from(self, row: int) -> Path:
        """The longest path through `row`: the first of those."""
        own = self.paths[row]
        through = (path for path in self.paths if path[: len(own)] == own)
        return max(through, key=len)

    def _new_mask(self, prefix_length: int, starts: tuple[int, ...]) -> Tensor:
        num_rows = len(self.paths)
        visible = torch.zeros(num_rows, prefix_length + num_rows, dtype=torch.bool)
        for row, path in enumerate(self.paths):
            start = starts[len(path) - 1]
            visible[row, start:prefix_length] = True
            visible[
                row, [prefix_length + p for d, p in enumerate(path) if prefix_length + d >= start]
            ] = True
        return visible[None, None]


def _blocks(start: int, end: int) -> tuple[int, int]:
    """The stretch, widened to whole blocks of keys."""
    return start // KEY_BLOCK * KEY_BLOCK, -(-end // KEY_BLOCK) * KEY_BLOCK


def _leaves_small_tile(num_queries: int) -> bool:
    tile = next(tile for least, tile in _TILES if num_queries >= least)
    return 0 < num_queries % tile < _MIN_TILE


def _hiding(
    visible: list[tuple[int, int]], start: int, end: int, group: int, like: Tensor
) -> Tensor:
    """The mask of a call whose rows see these stretches of keys."""
    limits = torch.tensor(visible, device=like.device)
    keys = torch.arange(start, end, device=like.device)
    is_hidden = (keys < limits[:, :1]) | (keys >= limits[:, 1:])
    mask = like.new_zeros(is_hidden.shape).masked_fill_(is_hidden, -torch.inf)
    return mask.expand(1, group, -1, -1).reshape(1, 1, -1, end - start)
