"""RMS norms in one call of our own instead of eight of torch (ADR 15).

`csrc/rms_norm.c` is built when the package is installed, if there is a GCC, and needs AVX512;
without it models compute their norms by themselves. What is such a norm is tried out, not looked
up: a module with one weight and an epsilon that gives what the kernel gives.
"""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor, nn

from selfdraft.model.kernels.compiled import Kernel, load_kernel

_VERSION = 1  # of the arguments; a build from before a change of them is not used
_LANES = 16
_EPSILONS = ("variance_epsilon", "eps", "epsilon")
_TOLERANCE = 2**-7  # one step of bfloat16: sums in another order may round to its other side
_SAMPLE_SCALES = (1e-3, 1.0, 1e3)  # with the first, epsilon counts


@lru_cache
def _kernel() -> Kernel | None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    return load_kernel("rms_norm", _VERSION, [*[pointer] * 3, *[number] * 2, ctypes.c_float])


def is_there() -> bool:
    """Whether the kernel was built, and this CPU can run it."""
    return _kernel() is not None


def rms_norms(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """What stands for each RMS norm of `model` in a view, where the kernel can compute it."""
    if not is_there():
        return {}
    found: dict[nn.Module, nn.Module] = {}
    for part in model.modules():
        weight, epsilon = _own_weight(part), _epsilon(part)
        if weight is not None and epsilon is not None:
            norm = KernelNorm(weight, epsilon)
            if _is_like(part, norm):
                found[part] = norm
    return found


class KernelNorm(nn.Module):
    """An RMS norm with the weight of another, in bfloat16 on a CPU: each row by itself."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self._epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """The normed states, of the shape of `hidden`, `[..., width]`; not differentiable."""
        kernel = _kernel()
        assert kernel is not None, "made only where it is there"
        width = self.weight.shape[0]
        is_readable = all(t.is_cpu and t.dtype == torch.bfloat16 for t in (hidden, self.weight))
        if not is_readable or hidden.shape[-1] != width:
            raise RuntimeError(
                f"cannot norm {hidden.dtype} {tuple(hidden.shape)} on {hidden.device} by "
                f"{self.weight.dtype} {width} on {self.weight.device}"
            )
        rows = hidden.contiguous()
        products = torch.empty_like(rows)
        kernel(
            rows.data_ptr(),
            self.weight.data_ptr(),
            products.data_ptr(),
            rows.numel() // width,
            width,
            self._epsilon,
        )
        return products


def _own_weight(part: nn.Module) -> nn.Parameter | None:
    """The weight of `part`, if that is all that it has, and the kernel can read it."""
    own = [*part.parameters(), *part.buffers()]
    is_replaced = "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks
    weight = part._parameters.get("weight")
    if weight is None or len(own) != 1 or is_replaced:
        return None
    is_fit = weight.dim() == 1 and weight.shape[0] % _LANES == 0 and weight.is_contiguous()
    is_here = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return weight if is_fit and is_here else None


def _epsilon(part: nn.Module) -> float | None:
    values = (getattr(part, name, None) for name in _EPSILONS)
    return next((value for value in values if isinstance(value, float)), None)


@torch.inference_mode()
def _is_like(part: nn.Module, norm: KernelNorm) -> bool:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(len(_SAMPLE_SCALES), norm.weight.shape[0], generator=generator)
    rows = (sample * torch.tensor(_SAMPLE_SCALES)[:, None]).bfloat16()[None]
    try:
        expected = part(rows)
    except (RuntimeError, TypeError, ValueError):
        return False
    is_tensor = isinstance(expected, Tensor) and expected.dtype == rows.dtype
    return is_tensor and torch.allclose(norm(rows), expected, rtol=_TOLERANCE, atol=0)
