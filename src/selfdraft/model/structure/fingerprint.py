"""What a model is called by its content, so that what was learned of it can be found again.

Names and dates lie: a folder is trained on and saved again, a class is edited in place. So the
weights are looked at. Reading all of them would cost as much as the passes that a fingerprint is
there to save; here every tensor is looked at in a few places, and small ones, in which one number
matters (norms, biases, scalars), are read whole. That takes a few milliseconds.
"""

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, MethodType

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from selfdraft.model.structure.code_digest import digest_code
from selfdraft.model.weights.quantisation import is_quantised

# A tensor of at most so many numbers is read whole; of a larger one, runs of neighbours in a few
# places. A run costs a page of the file, however short it is.
_WHOLE = 8192
_NUM_RUNS = 8
_RUN = 8

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_PRIMITIVES = (bool, int, float, str, type(None))

# What says where a model came from and who saved it, not what it computes.
_ORIGIN = ("_name_or_path", "transformers_version")
_IGNORED_ATTRIBUTES = frozenset(vars(nn.Module())) | {"name_or_path"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Two names of a loaded model, in hexadecimal."""

    weights: str
    """Names the weights, whatever runs them: what a skip set was found for."""
    exact: str | None
    """Names weights, code, config, versions and device: what a certificate is about. None if the
    code or the weights cannot be looked at: hooks, replaced forwards, quantised or offloaded."""


def fingerprint_of(model: PreTrainedModel) -> Fingerprint:
    """The fingerprint of `model` as it is now: take it before weights are packed or replaced."""
    weights = _digest([type(model).__name__, *_described(model.named_parameters())])
    if not _can_be_recognised(model):
        return Fingerprint(weights, None)
    parts = [
        weights,
        *_described(model.named_buffers()),
        *_versions(),
        *_devices(model),
        _config(model),
        _code(model),
    ]
    return Fingerprint(weights, _digest(parts))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _described(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[str]:
    """Name, shape and dtype of every tensor, then a digest of what was read of them."""
    samples: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for name, tensor in tensors:
        yield f"{name} {tuple(tensor.shape)} {tensor.dtype}"
        if _is_plain(tensor):
            group = samples.setdefault((tensor.dtype, tensor.device), [])
            group.append(_sample(tensor.detach()))
    for group in samples.values():  # few copies from the device, not one for each tensor
        values = torch.cat(group).cpu()
        yield hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest()


def _is_plain(tensor: Tensor) -> bool:
    is_opaque = tensor.is_mkldnn or tensor.is_meta or tensor.layout != torch.strided
    return not is_opaque and not is_traceable_wrapper_subclass(tensor)


def _sample(tensor: Tensor) -> Tensor:
    if tensor.numel() <= _WHOLE or not tensor.is_contiguous():
        return tensor.reshape(-1)
    # An odd step, so that the runs do not all lie in the same columns.
    step = (tensor.numel() - _RUN) // (_NUM_RUNS - 1) | 1
    step -= 2 * (step * (_NUM_RUNS - 1) + _RUN > tensor.numel())
    start = tensor.storage_offset()
    return tensor.as_strided((_NUM_RUNS, _RUN), (step, 1), start).reshape(-1)


def _can_be_recognised(model: PreTrainedModel) -> bool:
    """Whether classes, config and weights are all that decides what the model computes."""
    if is_quantised(model) or not all(_is_plain(parameter) for parameter in model.parameters()):
        return False
    return all(_is_as_its_class(module) for module in model.modules())


def _is_as_its_class(module: nn.Module) -> bool:
    has_own_code = "forward" in vars(module) or hasattr(module, "_hf_hook")
    has_hooks = any(getattr(module, hooks) for hooks in _HOOKS)
    # Compiled and scripted modules keep their code where it cannot be read.
    origin = type(module).__module__
    is_readable = not origin.startswith("torch.") or origin.startswith("torch.nn.")
    return is_readable and not has_own_code and not has_hooks


def _code(model: PreTrainedModel) -> str:
    """The classes in the tree, the attributes of each module, and the code of both."""
    functions: list[object] = []
    lines = []
    for name, module in model.named_modules():
        lines.append(f"{name} {type(module).__module__}.{type(module).__qualname__}")
        for attribute, value in vars(module).items():
            if attribute not in _IGNORED_ATTRIBUTES:
                lines.append(f"{attribute} {_attribute(value, functions)}")
    classes = {type(module): None for module in model.modules()}
    return _digest([*lines, digest_code(classes, functions)])


def _attribute(value: object, functions: list[object]) -> str:
    if isinstance(value, _PRIMITIVES):
        return repr(value)
    if isinstance(value, list | tuple):
        return repr([_attribute(item, functions) for item in value])
    if isinstance(value, FunctionType | MethodType):
        functions.append(value)
        return value.__qualname__
    if isinstance(value, Tensor) and _is_plain(value):
        return _digest(_described([("", value)]))
    return type(value).__qualname__


def _config(model: PreTrainedModel) -> str:
    """The config, and which attention is used, which transformers keeps beside it."""
    settings = model.config.to_dict()
    own = {name: value for name, value in settings.items() if name not in _ORIGIN}
    attention = getattr(model.config, "_attn_implementation", None)
    return f"{json.dumps(own, sort_keys=True, default=str)} {attention}"


def _devices(model: PreTrainedModel) -> Iterator[str]:
    for device in sorted({str(parameter.device) for parameter in model.parameters()}):
        is_cuda = device.startswith("cuda")
        kind = torch.cuda.get_device_name(device) if is_cuda else _cpu_capability()
        yield f"{device} {kind}"


def _cpu_capability() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _versions() -> tuple[str, ...]:
    return (
        f"python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"transformers {version('transformers')}",
        f"selfdraft {version('selfdraft')} {_own_code()}",
    )


@cache
def _own_code() -> str:
    """What certifies: a version number stands still while its code is being worked on."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.so")]):  # kernels of our own, too
        digest.update(file.read_bytes())
    return digest.hexdigest()
