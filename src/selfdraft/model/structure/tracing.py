"""One forward pass, watched: how each decoder layer calls its parts."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.structure.stubs import Returns, first_tensor


@dataclass(frozen=True, slots=True)
class ChildCall:
    """How a layer called one of its direct children."""

    name: str
    returns: Returns
    residual: int | str | None
    """The argument, beside the input, that has the residual stream's shape."""


@dataclass(slots=True)
class LayerTrace:
    """How one layer was called, what it returned, and what it called."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    calls: list[ChildCall] = field(default_factory=list)
    attention: str | None = None
    """The direct child that wrote the layer's keys and values; None if none did."""
    writes_cache: bool = False

    @property
    def hidden(self) -> Tensor:
        """The residual stream that went in."""
        return first_tensor(self.args, self.kwargs)


class _WatchedCache(KVCache):
    """A cache that tells who writes to it."""

    def __init__(
        self,
        num_layers: int,
        capacity: int,
        traces: list[LayerTrace],
        running: list[tuple[int, str]],
    ) -> None:
        super().__init__(num_layers, capacity)
        self._traces = traces
        self._running = running

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Note the child that is running, and write."""
        self._traces[layer_idx].writes_cache = True
        if self._running and self._running[-1][0] == layer_idx:
            self._traces[layer_idx].attention = self._running[-1][1]
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


class TracedLayers:
    """Watches the decoder layers of `view`, a copy that may be changed, inside its block.

    `new_cache` gives the cache that the watched pass must use. Its calls can be repeated while the
    cache's length is what it was when they were made.
    """

    def __init__(self, view: PreTrainedModel, list_name: str) -> None:
        self._layers = list(view.get_submodule(list_name).children())
        self._handles: list[RemovableHandle] = []
        self._running: list[tuple[int, str]] = []
        self.traces = [LayerTrace() for _ in self._layers]

    def new_cache(self, capacity: int) -> KVCache:
        """A cache that notes who writes to it."""
        return _WatchedCache(len(self._layers), capacity, self.traces, self._running)

    def __enter__(self) -> "TracedLayers":
        for index, (layer, trace) in enumerate(zip(self._layers, self.traces, strict=True)):
            self._handles += _watch_layer(layer, trace)
            for name, child in layer.named_children():
                self._handles += _watch_child(child, (index, name), trace, self._running)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _watch_layer(layer: nn.Module, trace: LayerTrace) -> list[RemovableHandle]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        trace.args, trace.kwargs = args, dict(kwargs)

    def after(_: nn.Module, args: object, output: Any) -> None:
        trace.output = output

    return [
        layer.register_forward_pre_hook(before, with_kwargs=True),
        layer.register_forward_hook(after),
    ]


def _watch_child(
    child: nn.Module, place: tuple[int, str], trace: LayerTrace, running: list[tuple[int, str]]
) -> list[RemovableHandle]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running.append(place)

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        running.pop()
        residual = _residual_argument(args, kwargs, trace.hidden)
        trace.calls.append(ChildCall(place[1], Returns.like(output), residual))

    return [
        child.register_forward_pre_hook(before, with_kwargs=True),
        child.register_forward_hook(after, with_kwargs=True),
    ]


def _residual_argument(
    args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor
) -> int | str | None:
    arguments: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    same_shape = [
        place
        for place, value in arguments
        if isinstance(value, Tensor) and value.shape == hidden.shape
    ]
    return same_shape[1] if len(same_shape) > 1 else None
