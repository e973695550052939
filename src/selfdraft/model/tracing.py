"""One forward pass, watched: how each decoder layer calls its parts."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from selfdraft.model.kv_cache import KVCache
from selfdraft.model.stubs import Returns, first_tensor


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

    def __init__(self, num_layers: int, capacity: int, traces: list[LayerTrace]) -> None:
        super().__init__(num_layers, capacity)
        self._traces = traces
        self.running: tuple[int, str] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Note the child that is running, and write."""
        self._traces[layer_idx].writes_cache = True
        if self.running is not None and self.running[0] == layer_idx:
            self._traces[layer_idx].attention = self.running[1]
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


def trace_layers(
    view: PreTrainedModel, list_name: str, inputs: dict[str, Tensor]
) -> tuple[list[LayerTrace], Tensor, KVCache]:
    """Run `view`, a copy that may be changed, once: its layers' traces, its logits, its cache.

    The cache of the traced calls stays at length 0, so a layer may be called again with the same
    arguments.
    """
    layers = list(view.get_submodule(list_name).children())
    traces = [LayerTrace() for _ in layers]
    num_tokens = inputs["input_ids"].shape[1]
    cache = _WatchedCache(len(layers), num_tokens + 8, traces)
    handles: list[RemovableHandle] = []
    for index, (layer, trace) in enumerate(zip(layers, traces, strict=True)):
        handles += _watch_layer(layer, trace)
        for name, child in layer.named_children():
            handles += _watch_child(child, (index, name), trace, cache)
    with torch.inference_mode():
        output = view(**inputs, past_key_values=cache, use_cache=True)
    for handle in handles:
        handle.remove()
    return traces, output.logits[0], cache


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
    child: nn.Module, place: tuple[int, str], trace: LayerTrace, cache: _WatchedCache
) -> list[RemovableHandle]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache.running = place

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        cache.running = None
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
