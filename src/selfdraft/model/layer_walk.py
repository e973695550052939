"""A pass that stops at every decoder layer and asks which sublayers to run.

The search for skip sets compares what each layer makes of many hidden states, with and without its
sublayers. It needs the layers one by one, for any model; here each layer of a shared copy is
replaced by one that hands its input, and the ways to run it, to a callback.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.structure.stubs import first_tensor
from selfdraft.model.view import ModelView
from selfdraft.shapes import HiddenStates

RunLayer = Callable[[], HiddenStates]
"""Runs one layer, in one of its ways, on the hidden states that it was given."""


class LayerStep(Protocol):
    """What happens at a layer of a walk."""

    def __call__(self, index: int, hidden: HiddenStates, ways: Sequence[RunLayer]) -> HiddenStates:
        """The hidden states to go on with; `ways` run layer `index` on `hidden`."""
        ...


class LayerWalk:
    """Walks through `model`. `ways` are shared copies of it that skip different sublayers."""

    def __init__(
        self,
        model: PreTrainedModel,
        ways: Sequence[PreTrainedModel],
        list_name: str,
        share: Callable[[dict[nn.Module, nn.Module]], PreTrainedModel],
    ) -> None:
        self._ways = [list(way.get_submodule(list_name).children()) for way in ways]
        self._layers: list[nn.Module] = list(model.get_submodule(list_name).children())
        self._share = share

    def run(
        self,
        cache: KVCache,
        token_ids: Sequence[int],
        paths: tuple[tuple[int, ...], ...],
        step: LayerStep,
    ) -> None:
        """One pass over new rows, as in `ModelView.forward`; `step` decides at every layer."""
        stops: dict[nn.Module, nn.Module] = {
            layer: _Stop(index, [way[index] for way in self._ways], step)
            for index, layer in enumerate(self._layers)
        }
        module = self._share(stops)
        ModelView(module, supports_trees=True).forward(cache, token_ids, paths, is_estimate=True)


class _Stop(nn.Module):
    """Stands in the place of a layer."""

    def __init__(self, index: int, ways: Sequence[nn.Module], step: LayerStep) -> None:
        super().__init__()
        self._index = index
        self._ways = tuple(ways)  # not children: they belong to other models
        self._step = step

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs: list[Any] = [None]

        def run(way: nn.Module) -> Tensor:
            output = way(*args, **kwargs)
            if way is self._ways[0]:
                outputs[0] = output
            hidden: Tensor = output[0] if isinstance(output, tuple) else output
            return hidden

        runs = [partial(run, way) for way in self._ways]
        hidden = self._step(self._index, first_tensor(args, kwargs), runs)
        return (hidden, *outputs[0][1:]) if isinstance(outputs[0], tuple) else hidden
