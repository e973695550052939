"""Which keys each new row of a pass may see, and which rows can share one call of attention.

Contract L2 (DESIGN section 2) wants a row's bits not to depend on the rows beside it. A call of
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

from selfdraft.model.kv_cache import KEY_BLOCK

Path = tuple[int, ...]
"""New rows from the root of the tree to one of them, named by their offsets from the prefix."""


@dataclass(frozen=True, slots=True)
class RowCall:
    """Rows that share one call, and the keys that it covers."""

    rows: tuple[int, ...]
    slots: Path
    """New rows that must lie in the first slots behind the prefix, in this order."""
    start: int
    end: int
    visible: tuple[tuple[int, int], ...]
    """For each row the stretch of keys that it sees, within `start` and `end`."""

    def mask(self, num_repeats: int, like: Tensor) -> Tensor:
        """Additive mask `[1, 1, num_repeats * rows, end - start]` in the type of `like`."""
        limits = torch.tensor(self.visible, device=like.device)
        keys = torch.arange(self.start, self.end, device=like.device)
        is_hidden = (keys < limits[:, :1]) | (keys >= limits[:, 1:])
        mask = like.new_zeros(is_hidden.shape).masked_fill_(is_hidden, -torch.inf)
        return mask.expand(1, num_repeats, -1, -1).reshape(1, 1, -1, self.end - self.start)


@dataclass(frozen=True, slots=True)
class RowPaths:
    """What each new row may see behind the prefix: the new rows from the root to itself.

    Rows beyond the last path are padding: copies of the row before them.
    """

    paths: tuple[Path, ...]
    rowwise: bool
    _made: dict[object, object] = field(default_factory=dict, compare=False)

    def calls(
        self, prefix_length: int, starts: tuple[int, ...], num_rows: int, *, is_shared: bool
    ) -> tuple[RowCall, ...]:
        """The calls of a pass; layers that see the same keys share them.

        `starts[d]` is the first key that a row at depth d sees. If not `is_shared`, every row has
        a call of its own, and the padding none.
        """
        key = (prefix_length, starts, num_rows, is_shared)
        if key not in self._made:
            padding = [len(self.paths) - 1] * (num_rows - len(self.paths) if is_shared else 0)
            self._made[key] = tuple(self._new_calls(prefix_length, starts, padding, is_shared))
        return self._made[key]  # type: ignore[return-value]

    def call_mask(self, call: RowCall, num_repeats: int, like: Tensor) -> Tensor:
        """`call.mask`, made once for all layers."""
        key = (call, num_repeats, like.dtype)
        if key not in self._made:
            self._made[key] = call.mask(num_repeats, like)
        return self._made[key]  # type: ignore[return-value]

    def mask(self, prefix_length: int, starts: tuple[int, ...], device: torch.device) -> Tensor:
        """Boolean mask `[1, 1, rows, prefix_length + rows]`: True where a row may look.

        For a pass that computes all rows in one call.
        """
        key = (prefix_length, starts)
        if key not in self._made:
            self._made[key] = self._new_mask(prefix_length, starts).to(device)
        return self._made[key]  # type: ignore[return-value]

    def _new_calls(
        self, prefix_length: int, starts: tuple[int, ...], padding: list[int], is_shared: bool
    ) -> Iterator[RowCall]:
        for slots, members in self._by_slots(is_shared):
            if members[-1] == len(self.paths) - 1:
                members = [*members, *padding]
            by_blocks: dict[tuple[int, int], list[int]] = {}
            stretches = {}
            for row in members:
                depth = len(self.paths[row])
                stretches[row] = (starts[depth - 1], prefix_length + depth)
                by_blocks.setdefault(_blocks(*stretches[row]), []).append(row)
            for (start, end), rows in by_blocks.items():
                visible = tuple(stretches[row] for row in rows)
                yield RowCall(tuple(rows), slots, start, end, visible)

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
