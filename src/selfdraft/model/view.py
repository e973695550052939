"""A view of a model: the same weights, run in another way, without touching the model.

A view is a copy of the module tree that shares every parameter (`sharing`). It differs from the
original in two ways: attention runs through `path_attention`, and the sublayers of a skip set are
replaced by stubs. The user's model is never changed, so nothing has to be restored, and any number
of views can be used at once from any number of threads.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfdraft.model.attention.row_paths import RowPaths
from selfdraft.model.cache.cache_argument import cache_argument
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.kernels.packing import PackedLinear
from selfdraft.model.placement import running_device
from selfdraft.model.weights.quantisation import is_quantised
from selfdraft.shapes import Logits

# oneDNN's bfloat16 linear gives a row the same bits for 2..n rows, but not for 1. torch asks it
# only for products of more than so many multiplications, which matters for tiny layers.
_MIN_ROWS = 2
_MIN_PRODUCT = 16**3

# oneDNN reads packed weights slower for two rows than for four (by a fifth on a 1.5B model).
_MIN_PACKED_ROWS = 4


class ModelView:
    """A model as one function: new rows in, logits out.

    On a CPU in bfloat16 a row's logits have the same bits whether it comes alone or with others
    (contract L2): what attention computes for a row is laid out by the row alone (`row_paths`), and
    a pass of one row is padded to a few, which costs nothing: such a pass waits for memory.

    A view that does not support trees runs the model's own attention. Its rows must be a chain, and
    the contract is L4. So is that of quantised weights: their kernels promise nothing about bits.
    """

    def __init__(self, module: PreTrainedModel, *, supports_trees: bool) -> None:
        self.supports_trees = supports_trees
        self.device = running_device(module)
        self._module = module
        self._accepts = frozenset(inspect.signature(module.forward).parameters)
        self._cache_argument = cache_argument(module)
        # A GPU pays for every call, and its kernels do not keep a row's bits anyway (contract L4).
        self._rowwise = self.device.type == "cpu"
        is_exact_row = self._rowwise and module.dtype == torch.bfloat16
        is_plain = not _has_experts(module) and not is_quantised(module)
        self.is_bit_exact = supports_trees and is_exact_row and is_plain
        self._min_rows = _rows_for_equal_bits(module) if self.is_bit_exact else 1

    @torch.inference_mode()
    def forward(
        self,
        cache: KVCache,
        token_ids: Sequence[int],
        paths: tuple[tuple[int, ...], ...],
        *,
        is_estimate: bool = False,
    ) -> Logits:
        """Logits after each of the new rows; the cache's length does not move.

        Row i holds `token_ids[i]` and sees the cached sequence, then the new rows `paths[i]`,
        the last of which is itself. An estimate may compute all rows in one go: it is faster for
        many rows, and its bits are not those of the contract.
        """
        num_rows = len(token_ids)
        padding = 0 if is_estimate else max(0, self._min_rows - num_rows)
        row_positions = [cache.length + len(path) - 1 for path in paths]
        extra: dict[str, Any] = {}
        if self.supports_trees:
            extra["row_paths"] = RowPaths(paths, self._rowwise and not is_estimate)
        else:
            assert all(len(path) == row + 1 for row, path in enumerate(paths)), "rows are a chain"
        output = self._module(
            input_ids=self._row([*token_ids, *[token_ids[-1]] * padding]),
            **self._positions([*row_positions, *[row_positions[-1]] * padding]),
            **self._memory(cache),
            **extra,
        )
        logits: Logits = output.logits[0, :num_rows]
        return logits

    @torch.inference_mode()
    def prefill(self, cache: KVCache, token_ids: Sequence[int]) -> None:
        """Fill the empty cache with `token_ids`, in one pass."""
        assert cache.length == 0, "prefill needs an empty cache"
        extra = {"logits_to_keep": 1} if "logits_to_keep" in self._accepts else {}
        self._module(
            input_ids=self._row(token_ids),
            **self._positions(range(len(token_ids))),
            **self._memory(cache),
            **extra,
        )
        cache.advance(len(token_ids))

    def _memory(self, cache: KVCache) -> dict[str, Any]:
        """The cache, under the name that the model's code has for it."""
        assert self._cache_argument is not None, "a target takes a cache"
        return {self._cache_argument: cache, "use_cache": True}

    def _positions(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Position ids, for a model that takes them; others count the rows of the cache."""
        return {"position_ids": self._row(positions)} if "position_ids" in self._accepts else {}

    def _row(self, values: Sequence[int]) -> Tensor:
        return torch.tensor([list(values)], device=self.device)


def _has_experts(module: PreTrainedModel) -> bool:
    """Whether rows are sorted to experts: how many share an expert's product nobody can know."""
    lists = [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList)]
    is_nested = any(inner.startswith(f"{outer}.") for inner in lists for outer in lists)
    return is_nested or any(weight.dim() > 2 for weight in module.parameters())


def _rows_for_equal_bits(module: PreTrainedModel) -> int:
    """Fewest rows of a pass: bits stay the same from some number on, and speed may want more."""
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    smallest = min((part.weight.numel() for part in linears), default=_MIN_PRODUCT)
    is_packed = any(isinstance(part, PackedLinear) for part in linears)
    least = _MIN_PACKED_ROWS if is_packed else _MIN_ROWS
    return max(least, _MIN_PRODUCT // smallest + 1)
