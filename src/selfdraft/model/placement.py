"""Where a model runs and in which numbers: what the words of a user mean on this machine."""

from pathlib import Path

import torch
from torch import nn

from selfdraft.errors import ConfigError, UnsupportedModelError
from selfdraft.storage.progress import first_line

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}
_SHORT_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}

# x86 and ARM. Without one of these a CPU still runs bfloat16, but by converting every number.
_CPU_COMPUTES_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def resolve_device(device: str | torch.device) -> torch.device:
    """The device that `device` names; "auto" is the accelerator if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    # A torch built without CUDA asserts; a missing driver or a wrong index is a RuntimeError.
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {str(device)!r} cannot be used here ({first_line(error)}): "
            "give 'auto', 'cpu', or a device that torch finds on this machine"
        ) from error
    return chosen


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype that `dtype` names; "auto" is bfloat16 where `device` computes it, else float32.

    Raises:
        ConfigError: no model is loaded in such numbers.
    """
    if isinstance(dtype, torch.dtype):
        name = dtype_name(dtype)
    elif dtype == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    else:
        name = _SHORT_NAMES.get(dtype.lower(), dtype.lower())
    if name not in _DTYPES:
        raise ConfigError(
            f"dtype is {str(dtype)!r}: give auto, {', '.join(_DTYPES)} "
            f"(or {', '.join(_SHORT_NAMES)})"
        )
    return _DTYPES[name]


def running_device(model: nn.Module) -> torch.device:
    """The device on which `model` computes, and which takes its input.

    If accelerate offloads weights, the model has empty ones until its hooks bring them there.

    Raises:
        UnsupportedModelError: the model has no weights, and nothing that would bring them.
    """
    resident = next((p.device for p in model.parameters()), torch.device("cpu"))
    if resident.type != "meta":
        return resident
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for part in getattr(hook, "hooks", (hook,)):
            device = getattr(part, "execution_device", None)
            if device is not None:
                return torch.device(device)
    raise UnsupportedModelError(
        f"{type(model).__name__} is on the meta device, without weights: load it with "
        "from_pretrained, or offload it with accelerate, whose hooks bring the weights"
    )


def available_memory() -> int | None:
    """Bytes that the system could still give out, where it says so (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kibibytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kibibytes is None else int(kibibytes) * 1024


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for `torch.bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Older releases of torch cannot tell; float32 is right everywhere.
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in _CPU_COMPUTES_BFLOAT16)
    return False
