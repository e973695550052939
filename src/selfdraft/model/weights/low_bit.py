"""The target's linears once more, in few bits: made when a draft first asks, shared by all drafts.

Where `copy_cache` has kept the copy from an earlier time, it is read instead of made.

Only linears of the decoder layers and the head are copied, and only those that the kernels can
run; the draft computes the rest with the target's own modules. Weights that are changed afterwards
stay as they were in the copy, which costs speed and never the text.
"""

from collections.abc import Callable, Iterator, Mapping
from threading import Lock

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfdraft.errors import ConfigError, UnsupportedModelError
from selfdraft.model.draft_plan import WeightBits
from selfdraft.model.kernels.packing import PackedLinear
from selfdraft.model.kernels.rounding import GROUP
from selfdraft.model.kernels.shared_input import join_shared_inputs
from selfdraft.model.placement import running_device
from selfdraft.model.weights.copy_cache import CopyCache
from selfdraft.model.weights.dense_weight import dense_shape, dense_weight
from selfdraft.model.weights.low_bit_linear import (
    Int4DotLinear,
    RescoredHead,
    RoundedLinear,
    linear_kind,
)
from selfdraft.model.weights.quantisation import is_quantised
from selfdraft.storage.huge_pages import HugePages
from selfdraft.storage.tensor_file import TensorForm

_WORTH_A_BAR = 2 * 10**8  # weights; fewer are rounded in a second

Substitutes = Mapping[nn.Module, nn.Module]
"""What stands in for a module of the target in a draft."""


class LowBitCopies:
    """The copies of one model, by the bits of their weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        list_name: str,
        memory_limit: int | None,
        try_out: Callable[[Substitutes], None],
        cache: CopyCache,
    ) -> None:
        """`try_out` is called with every new copy, and raises if the model cannot run with it.

        `memory_limit` are bytes for all copies together; None is no limit, 0 no copy.
        """
        self._model = model
        self._list_name = list_name
        self._memory_limit = memory_limit
        self._try_out = try_out
        self._cache = cache
        self._copies: dict[WeightBits, Substitutes] = {}
        self._lock = Lock()

    def predict_bytes(self, bits: WeightBits) -> int:
        """Bytes that the copy with `bits` has or will have; 0 if the model can have none."""
        if bits == 16 or self.problem() is not None:
            return 0
        return sum(form.num_bytes for form in self._forms(bits).values())

    @property
    def cache(self) -> CopyCache:
        """Where copies are kept on disk."""
        return self._cache

    @property
    def num_bytes(self) -> dict[WeightBits, int]:
        """Bytes of each copy that there is."""
        return {bits: _bytes_of(copy) for bits, copy in list(self._copies.items())}

    def substitutes(self, bits: WeightBits) -> Substitutes:
        """The low-bit module for each linear that has one; made by the first call, which waits.

        Raises:
            ConfigError: the copy would exceed the memory limit.
            UnsupportedModelError: the model can have no copy.
        """
        if bits == 16:
            return {}
        with self._lock:
            if bits not in self._copies:
                self._require_possible(bits)
                self._require_room(bits)
                copy = self._recall(bits)
                is_new = copy is None
                if copy is None:
                    copy = self._make(bits)
                join_shared_inputs(self._model, _dot_linears(copy))
                self._try_out(copy)
                self._copies[bits] = copy
                if is_new:
                    self._cache.remember(bits, self._tensors(copy))
            return self._copies[bits]

    def _linears(self) -> Iterator[tuple[nn.Module, tuple[int, int]]]:
        """Every linear that gets a copy, with the shape of its weight."""
        head = self._model.get_output_embeddings()
        for module in (*self._model.get_submodule(self._list_name).modules(), head):
            shape = None if module is None else dense_shape(module)
            # The int4 kernel's condition, for both so that their drafts have the same parts.
            if shape is not None and shape[1] % GROUP == 0:
                yield module, shape

    def _names(self) -> dict[nn.Module, str]:
        return {module: name for name, module in self._model.named_modules()}

    def _forms(self, bits: WeightBits) -> dict[str, TensorForm]:
        """What the tensors of the copy will be, by the name of their linear and their own."""
        names = self._names()
        return {
            f"{names[module]}.{part}": form
            for module, (num_rows, num_columns) in self._linears()
            for part, form in linear_kind(bits, _dtype_of(module))
            .forms(num_rows, num_columns, _dtype_of(module))
            .items()
        }

    def _tensors(self, copy: Substitutes) -> dict[str, Tensor]:
        """The tensors of the copy, named as their forms."""
        names = self._names()
        return {
            f"{names[module]}.{part}": tensor
            for module, rounded in copy.items()
            for part, tensor in _plain(rounded).named_buffers()
        }

    def problem(self) -> str | None:
        """Why the model can have no copy; None if it can."""
        device = running_device(self._model)
        if device.type != "cpu":
            return f"it is on {device.type}, and torch's kernels for such weights are for the CPU"
        if is_quantised(self._model):
            return "its own weights are quantised"
        if next(self._linears(), None) is None:
            return f"it has no plain linears whose inputs are a multiple of {GROUP}"
        return None

    def _require_possible(self, bits: WeightBits) -> None:
        problem = self.problem()
        if problem is not None:
            raise UnsupportedModelError(
                f"{type(self._model).__name__} can have no draft with weight_bits={bits}, because "
                f"{problem}: draft with weight_bits=16"
            )

    def _require_room(self, bits: WeightBits) -> None:
        if self._memory_limit is None:
            return
        used, needed = sum(self.num_bytes.values()), self.predict_bytes(bits)
        if used + needed > self._memory_limit:
            others = f" beside {used:,} of another copy" if used else ""
            raise ConfigError(
                f"a draft with weight_bits={bits} needs {needed:,} bytes{others}, but "
                f"draft_memory_limit is {self._memory_limit:,}: raise it, or draft with "
                "weight_bits=16"
            )

    @torch.inference_mode()
    def _make(self, bits: WeightBits) -> Substitutes:
        copy: dict[nn.Module, nn.Module] = {}
        pages = HugePages()
        num_weights = sum(rows * columns for _, (rows, columns) in self._linears())
        with Progress(
            console=Console(stderr=True), disable=num_weights < _WORTH_A_BAR, transient=True
        ) as progress:
            task = progress.add_task(f"rounding weights to {bits} bits", total=num_weights)
            for module, _ in self._linears():
                weight = dense_weight(module)
                assert weight is not None, "a linear with a shape has a weight"
                rounded = linear_kind(bits, weight.dtype).round(weight, _bias_of(module))
                pages.take(rounded)
                copy[module] = self._substitute(module, rounded)
                progress.advance(task, weight.numel())
        return copy

    def _recall(self, bits: WeightBits) -> Substitutes | None:
        """The copy as it was kept on disk, if it was."""
        tensors = self._cache.recall(bits, self._forms(bits))
        if tensors is None:
            return None
        names = self._names()
        copy = {}
        for module, shape in self._linears():
            dtype = _dtype_of(module)
            kind = linear_kind(bits, dtype)
            own = {part: tensors[f"{names[module]}.{part}"] for part in kind.forms(*shape, dtype)}
            copy[module] = self._substitute(module, kind(own, _bias_of(module), shape))
        return copy

    def _substitute(self, module: nn.Module, rounded: RoundedLinear) -> nn.Module:
        # A packed head has no rows to read.
        is_head = module is self._model.get_output_embeddings()
        if not is_head or isinstance(module, PackedLinear):
            return rounded
        weight = dense_weight(module)
        assert weight is not None, "a linear with a shape has a weight"
        return RescoredHead(rounded, weight)


def _bias_of(linear: nn.Module) -> Tensor | None:
    bias: Tensor | None = getattr(linear, "bias", None)
    return None if bias is None else bias.detach()


def _dtype_of(linear: nn.Module) -> torch.dtype:
    weight = linear.weight
    assert isinstance(weight, Tensor), "a linear with a shape has a weight"
    return weight.dtype


def _plain(rounded: nn.Module) -> nn.Module:
    return rounded.rough if isinstance(rounded, RescoredHead) else rounded


def _dot_linears(copy: Substitutes) -> dict[nn.Module, Int4DotLinear]:
    plain = {module: _plain(rounded) for module, rounded in copy.items()}
    return {m: rounded for m, rounded in plain.items() if isinstance(rounded, Int4DotLinear)}


def _bytes_of(copy: Substitutes) -> int:
    return sum(buffer.nbytes for module in copy.values() for buffer in module.buffers())
