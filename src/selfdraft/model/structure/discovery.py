"""Learning a model's structure from the model: decoder layers, sublayers, and how to skip them.

One forward pass shows how each layer calls its parts. The part that writes the layer's keys and
values is the attention; other parts with weight matrices are the MLP, in one module or several.
How to skip them is then tried out on the layer itself, and kept only if it is certified:

(a) skipping both sublayers is the identity: the residual stream passes unchanged;
(b) skipping none gives the bits of the original model (`Target` checks this on whole models);
(c) skipping one sublayer gives the same bits as running it and dropping its contribution.

What fails is not skippable, with the reason. A wrong certificate could cost speed and never the
text, which the target alone decides (docs/contract.md, D1).
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.structure.stubs import Bypass, PassResidual, Returns, Silence, Stub, StubModule
from selfdraft.model.structure.sublayers import DecoderLayer, DecoderLayers, Sublayer
from selfdraft.model.structure.tracing import ChildCall, LayerTrace
from selfdraft.model.weights.quantisation import weights_of

Stubs = dict[str, Stub]

# An MLP of so many modules that there are more ways than this is not worth a longer load.
_MAX_WAYS = 32


def find_layer_list(model: PreTrainedModel) -> str:
    """Dotted name of the list of decoder layers: the heaviest list that lies in no other one.

    Raises:
        UnsupportedModelError: there is none.
    """
    modules: Iterable[tuple[str, nn.Module]] = model.named_modules()
    lists = {name: m for name, m in modules if isinstance(m, nn.ModuleList) and len(m) > 0}
    outer = {
        name: module
        for name, module in lists.items()
        if not any(name.startswith(f"{other}.") for other in lists if other != name)
    }
    if not outer:
        raise UnsupportedModelError(f"{type(model).__name__} has no list of decoder layers")
    weights = {name: sum(w.numel() for w in weights_of(m)) for name, m in outer.items()}
    return max(outer, key=lambda name: weights[name])


def learn_layers(view: PreTrainedModel, list_name: str, traces: list[LayerTrace]) -> DecoderLayers:
    """Certify every layer of `view`, whose calls are in `traces`; the first and last always run.

    What works on one layer is tried first on the others of the same structure. Certificate (a) is
    taken of every layer, (c) of one layer for each structure: it does not depend on the weights.
    """
    modules = list(view.get_submodule(list_name).children())
    last = len(modules) - 1
    known: dict[object, DecoderLayer] = {}
    learned = []
    for index, (module, trace) in enumerate(zip(modules, traces, strict=True)):
        structure = _structure(module, trace)
        if structure not in known or not _holds_for(known[structure], module, trace):
            known[structure] = _learn_layer(module, trace)
        layer = known[structure]
        if index in (0, last):
            layer = _always_running(layer, "first" if index == 0 else "last")
        learned.append(layer)
    return DecoderLayers(list_name, tuple(learned))


def _structure(layer: nn.Module, trace: LayerTrace) -> object:
    """Equal for layers of the same code, shapes and calls."""
    shapes = tuple((name, parameter.shape) for name, parameter in layer.named_parameters())
    parts = tuple((name, type(module)) for name, module in layer.named_modules())
    return parts, shapes, tuple(trace.calls), trace.attention, trace.writes_cache


def _holds_for(known: DecoderLayer, layer: nn.Module, trace: LayerTrace) -> bool:
    """Whether what was learned of a layer of this structure is certified for this one too."""
    if known.attention is None or known.mlp is None:
        return False
    return _is_identity(layer, trace, known.attention.stubs | known.mlp.stubs)


def _always_running(layer: DecoderLayer, which: str) -> DecoderLayer:
    reason = f"the {which} layer always runs"
    return replace(layer, attention=None, mlp=None, is_skippable_whole=False, reason=reason)


def _learn_layer(layer: nn.Module, trace: LayerTrace) -> DecoderLayer:
    returns = Returns.like(trace.output)
    if not trace.writes_cache:
        return DecoderLayer(returns, reason="it keeps no keys and values of its own")
    attention = next((call for call in trace.calls if call.name == trace.attention), None)
    mlp = [call for call in trace.calls if call is not attention and _has_matrix(layer, call)]
    if attention is None or not mlp:
        return DecoderLayer(
            returns,
            is_skippable_whole=True,
            reason="attention and MLP cannot be told apart: skipped together",
        )
    learned = DecoderLayer(returns, attention.name, tuple(call.name for call in mlp))
    width = trace.hidden.shape[-1]
    candidates = itertools.product(_ways_to_skip([attention], width), _ways_to_skip(mlp, width))
    best = replace(learned, reason="skipping both sublayers is not the identity")
    for attention_stubs, mlp_stubs in candidates:
        if _is_identity(layer, trace, attention_stubs | mlp_stubs):
            certified = _certify(layer, trace, learned, attention_stubs, mlp_stubs)
            if certified.attention and certified.mlp:
                return certified
            best = best if best.is_skippable_whole else certified
    return best


def _has_matrix(layer: nn.Module, call: ChildCall) -> bool:
    return any(weight.dim() > 1 for weight in weights_of(layer.get_submodule(call.name)))


def _ways_to_skip(calls: list[ChildCall], width: int) -> Iterator[Stubs]:
    """Candidates: the last module contributes zero, or hands the residual on.

    Each module before it adds zero to the stream as well, or is quiet inside: one wide, which any
    width takes.
    """
    *inputs, output = calls
    outputs: list[Stub] = [Silence(width, output.returns)]
    if output.residual is not None:
        outputs.append(PassResidual(output.residual, output.returns))
    widths = itertools.product((1, width), repeat=len(inputs))
    for chosen in itertools.islice(widths, _MAX_WAYS):
        stubs = zip(inputs, chosen, strict=True)
        quiet: Stubs = {call.name: Silence(wide, call.returns) for call, wide in stubs}
        yield from (quiet | {output.name: stub} for stub in outputs)


def _is_identity(layer: nn.Module, trace: LayerTrace, stubs: Stubs) -> bool:
    """Certificate (a). A candidate of the wrong form may also fail inside the layer."""
    before = trace.hidden.clone()
    try:
        hidden = _run(layer, trace, stubs)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    is_untouched = torch.equal(trace.hidden, before)
    return is_untouched and torch.equal(hidden, before)


def _certify(
    layer: nn.Module, trace: LayerTrace, learned: DecoderLayer, attention: Stubs, mlp: Stubs
) -> DecoderLayer:
    """Certificate (c) for each sublayer, and the norms that may be left out with it."""
    certified = []
    for stubs in (attention, mlp):
        skipped = _run(layer, trace, stubs)
        is_sound = torch.equal(skipped, _run_dropping(layer, trace, stubs))
        certified.append(
            Sublayer(_with_idle_norms(layer, trace, stubs, skipped)) if is_sound else None
        )
    return replace(
        learned,
        attention=certified[0],
        mlp=certified[1],
        is_skippable_whole=True,
        reason=None if all(certified) else "skipping a sublayer does more than drop its part",
    )


def _with_idle_norms(layer: nn.Module, trace: LayerTrace, stubs: Stubs, expected: Tensor) -> Stubs:
    """`stubs`, and a bypass for every norm whose result then makes no difference."""
    extended = dict(stubs)
    for call in trace.calls:
        if call.name not in stubs and not _has_matrix(layer, call):
            candidate = extended | {call.name: Bypass(call.returns)}
            if torch.equal(_run(layer, trace, candidate), expected):
                extended = candidate
    return extended


@torch.inference_mode()
def _run(layer: nn.Module, trace: LayerTrace, stubs: Stubs) -> Tensor:
    """The layer's result on the traced call, with stubs in the place of some children."""
    originals = {name: layer._modules[name] for name in stubs}
    try:
        for name, stub in stubs.items():
            layer._modules[name] = StubModule(stub)
        return _hidden(layer.forward(*trace.args, **trace.kwargs))
    finally:
        layer._modules.update(originals)


@torch.inference_mode()
def _run_dropping(layer: nn.Module, trace: LayerTrace, stubs: Stubs) -> Tensor:
    """The layer's result when the children run as ever and what they contribute is dropped."""
    handles = [
        layer.get_submodule(name).register_forward_hook(
            lambda _, args, kwargs, output, stub=stub: stub.result(args, kwargs),
            with_kwargs=True,
        )
        for name, stub in stubs.items()
        if not (isinstance(stub, Silence) and stub.width == 1)
    ]
    try:
        return _hidden(layer.forward(*trace.args, **trace.kwargs))
    finally:
        for handle in handles:
            handle.remove()


def _hidden(output: Any) -> Tensor:
    hidden = output[0] if isinstance(output, tuple) else output
    assert isinstance(hidden, Tensor)
    return hidden


def layer_stubs(layers: DecoderLayers, attention: set[int], mlp: set[int]) -> dict[str, Stub]:
    """A stub for each module that is left out, by its dotted name in the model."""
    stubs: dict[str, Stub] = {}
    for index in attention | mlp:
        layer, place = layers.layers[index], f"{layers.list_name}.{index}"
        if index in attention & mlp:
            stubs[place] = Bypass(layer.returns)
            continue
        sublayer = layer.attention if index in attention else layer.mlp
        assert sublayer is not None, "the skip set was checked against the layers"
        stubs |= {f"{place}.{name}": stub for name, stub in sublayer.stubs.items()}
    return stubs
