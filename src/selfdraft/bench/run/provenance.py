"""Where a number comes from: everything that somebody needs to make it again, or to doubt it."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from selfdraft.model.attention import attention_kernel
from selfdraft.model.kernels import int4_dot, rms_norm, tile_linear
from selfdraft.model.target import Target

_PACKAGES = ("selfdraft", "torch", "transformers", "numpy", "safetensors", "tokenizers")

# Instruction sets that decide which kernels are used, out of the hundred that a CPU names.
_RELEVANT_FLAG = re.compile(r"avx|amx|vnni|bf16|fp16|f16c|fma$|sve|asimd|i8mm|neon")

# The folder that this file is in, so that another repository's commit is not taken for ours.
_SOURCE = Path(__file__).parent


def provenance(model: str, target: Target) -> dict[str, Any]:
    """Versions, machine and model of this process. `command` and `date` are of this call.

    `model` is what `target` was asked for by; what it is says its fingerprint.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["selfdraft", *sys.argv[1:]],
        "commit": commit(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": _machine(target.device),
        "threads": torch.get_num_threads(),
        "own_int4_kernel": int4_dot.is_there(),
        "own_attention_kernel": attention_kernel.is_there(),
        "own_linear_kernel": tile_linear.is_there(),
        "own_norm_kernel": rms_norm.is_there(),
        "dtype": str(target.dtype).removeprefix("torch."),
        "device": str(target.device),
        "model": {"name": model, "fingerprint": target.fingerprint.weights},
    }


def commit() -> str | None:
    """The commit of the source, with `+` and a digest where files were changed; else None."""
    hexadecimal = _git("rev-parse", "HEAD")
    if hexadecimal is None:
        return None
    changes = _git("diff", "HEAD", "--", str(_SOURCE.parent))
    return hexadecimal + (f"+{_digest(changes)[:8]}" if changes else "")


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", "-C", str(_SOURCE), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:  # no git
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _machine(device: torch.device) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_info("model name") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "cpu_flags": sorted(f for f in _cpu_info("flags").split() if _RELEVANT_FLAG.search(f)),
        "memory_gib": _memory_gib(),
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
        machine["cuda"] = torch.version.cuda
    return machine


def _cpu_info(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    match = re.search(rf"^{field}\s*:\s*(.*)$", path.read_text(), re.MULTILINE)
    return match[1] if match else ""


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
