"""A view of a model: the same weights, run in another way, without touching the model.

A view is a copy of the module tree that shares every parameter. It differs from the original in
two ways: attention runs through `path_attention`, and the sublayers of a skip set are replaced by
stubs. The user's model is never changed, so nothing has to be restored, and any number of views
can be used at once from any number of threads.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfdraft.model.attention import IMPLEMENTATION, RowPaths
from selfdraft.model.kv_cache import KVCache
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.sublayers import ATTENTION, MLP, DecoderLayers
from selfdraft.shapes import Logits

# oneDNN's bfloat16 linear gives a row the same bits for 2..n rows, but not for 1.
_MIN_ROWS = 2


class ModelView:
    """A model as one function: new rows in, logits out.

    On a CPU in bfloat16 a row's logits have the same bits whether it comes alone or with
    others (contract L2): attention is computed row by row, and a pass of one row is padded to two,
    which costs nothing because such a pass waits for memory.
    """

    def __init__(self, model: PreTrainedModel, layers: DecoderLayers, skip_set: SkipSet) -> None:
        skip_set.require_within(layers.eligible)
        self.skip_set = skip_set
        self._module = _share(model, _stubs(model, layers, skip_set))
        # A GPU pays for every call, and its kernels do not keep a row's bits anyway (contract L4).
        self._rowwise = model.device.type == "cpu"
        is_bfloat16 = model.dtype == torch.bfloat16
        self._min_rows = _MIN_ROWS if self._rowwise and is_bfloat16 else 1

    @torch.inference_mode()
    def forward(
        self, cache: KVCache, token_ids: Sequence[int], paths: tuple[tuple[int, ...], ...]
    ) -> Logits:
        """Logits after each of the new rows; the cache's length does not move.

        Row i holds `token_ids[i]` and sees the cached sequence, then the new rows `paths[i]`,
        the last of which is itself.
        """
        num_rows = len(token_ids)
        padding = max(0, self._min_rows - num_rows)
        row_positions = [cache.length + len(path) - 1 for path in paths]
        output = self._module(
            input_ids=self._row([*token_ids, *[token_ids[-1]] * padding]),
            position_ids=self._row([*row_positions, *[row_positions[-1]] * padding]),
            past_key_values=cache,
            use_cache=True,
            row_paths=RowPaths(paths, self._rowwise),
        )
        logits: Logits = output.logits[0, :num_rows]
        return logits

    @torch.inference_mode()
    def prefill(self, cache: KVCache, token_ids: Sequence[int]) -> None:
        """Fill the empty cache with `token_ids`, in one pass."""
        assert cache.length == 0, "prefill needs an empty cache"
        self._module(
            input_ids=self._row(token_ids),
            position_ids=self._row(range(len(token_ids))),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.advance(len(token_ids))

    def _row(self, values: Sequence[int]) -> Tensor:
        return torch.tensor([list(values)], device=self._module.device)


def _stubs(
    model: PreTrainedModel, layers: DecoderLayers, skip_set: SkipSet
) -> dict[nn.Module, nn.Module]:
    """What stands in for each module that the skip set leaves out."""
    attention, mlp = set(skip_set.attention), set(skip_set.mlp)
    stubs: dict[nn.Module, nn.Module] = {}
    for index, layer in enumerate(model.get_submodule(layers.list_name).children()):
        if index in attention & mlp:
            stubs[layer] = _Bypass()
            continue
        for skipped, (norm, sublayer) in ((attention, ATTENTION), (mlp, MLP)):
            if index in skipped:
                stubs[layer.get_submodule(norm)] = _Bypass()
                is_attention = sublayer == "self_attn"
                stubs[layer.get_submodule(sublayer)] = _Silence(returns_tuple=is_attention)
    return stubs


class _Bypass(nn.Module):
    """Hands its input on unchanged."""

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        return hidden_states


class _Silence(nn.Module):
    """Contributes nothing to the residual stream."""

    def __init__(self, *, returns_tuple: bool) -> None:
        super().__init__()
        self._returns_tuple = returns_tuple

    def forward(
        self, hidden_states: Tensor, *args: object, **kwargs: object
    ) -> Tensor | tuple[Tensor, None]:
        nothing = hidden_states.new_zeros(())
        return (nothing, None) if self._returns_tuple else nothing


def _share(model: PreTrainedModel, stubs: dict[nn.Module, nn.Module]) -> PreTrainedModel:
    """A copy of the module tree with the same parameters, our attention, and the stubs."""
    config = copy.copy(model.config)
    config._attn_implementation = IMPLEMENTATION

    def twin(module: nn.Module) -> nn.Module:
        if module in stubs:
            return stubs[module]
        shared = copy.copy(module)
        shared._parameters = dict(module._parameters)
        shared._buffers = dict(module._buffers)
        shared._modules = {
            name: None if child is None else twin(child) for name, child in module._modules.items()
        }
        if getattr(module, "config", None) is model.config:
            shared.__dict__["config"] = config
        return shared

    view = twin(model).eval()
    assert isinstance(view, PreTrainedModel)
    return view
