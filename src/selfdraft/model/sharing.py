"""A copy of a model's module tree that shares every parameter with it."""

import copy
from collections.abc import Mapping
from functools import partial
from types import MethodType
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from selfdraft.errors import UnsupportedModelError

# Dictionaries of a module that a copy must own, so that changing the copy leaves the original.
_OWNED = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)

# A model that is run in a way it was not written for fails with one of these.
FAILURES = (
    TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, AssertionError,
    UnsupportedModelError,
)  # fmt: skip

T = TypeVar("T")


def share(
    model: PreTrainedModel,
    substitutes: Mapping[nn.Module, nn.Module],
    attention: str | None = None,
) -> PreTrainedModel:
    """A copy of `model` in evaluation mode, with `substitutes` in the place of some modules.

    `attention` names the attention implementation that the copy uses, None the model's own. The
    copy costs no memory to speak of; the model itself is not touched.
    """
    configs: dict[int, object] = {}

    def twin(module: nn.Module) -> nn.Module:
        if module in substitutes:
            return substitutes[module]
        shared = copy.copy(module)
        for name, value in module.__dict__.items():
            if isinstance(value, (MethodType, partial)):
                shared.__dict__[name] = _rebound(value, module, shared)
        for name in _OWNED:
            shared.__dict__[name] = copy.copy(module.__dict__[name])
        for name, child in module._modules.items():
            shared._modules[name] = None if child is None else twin(child)
        if attention is not None and hasattr(module, "config"):
            shared.__dict__["config"] = _with_attention(module.config, attention, configs)
        return shared

    view = twin(model).eval()
    assert isinstance(view, PreTrainedModel)
    return view


def _rebound(value: T, module: nn.Module, shared: nn.Module) -> T:
    """`value`, or the same method of `shared` if it is one of `module`.

    accelerate replaces `forward` on modules whose weights it moves. Left as it is, a copy's forward
    would run the original module, and the original's children.
    """
    if isinstance(value, MethodType) and value.__self__ is module:
        return MethodType(value.__func__, shared)  # type: ignore[return-value]
    if isinstance(value, partial):
        args = [shared if arg is module else arg for arg in value.args]
        rebound = partial(_rebound(value.func, module, shared), *args, **value.keywords)
        rebound.__dict__.update(value.__dict__)  # where `inspect.signature` looks
        return rebound  # type: ignore[return-value]
    return value


def _with_attention(config: object, attention: str, configs: dict[int, object]) -> object:
    """A copy of `config` that asks for `attention`; modules that shared a config share the copy."""
    if not hasattr(config, "_attn_implementation"):
        return config
    if id(config) not in configs:
        changed = copy.copy(config)
        changed.__dict__["_attn_implementation_internal"] = attention
        configs[id(config)] = changed
    return configs[id(config)]
