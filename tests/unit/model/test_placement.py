"""What "auto" and the names of dtypes and devices mean."""

from contextlib import nullcontext

import pytest
import torch

from selfdraft.errors import ConfigError
from selfdraft.model.placement import resolve_device, resolve_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("bfloat16", torch.bfloat16),
        ("bf16", torch.bfloat16),
        ("float16", torch.float16),
        ("fp16", torch.float16),
        ("float32", torch.float32),
        ("FP32", torch.float32),
        ("float64", torch.float64),
        ("fp64", torch.float64),
        (torch.float16, torch.float16),
        (torch.float64, torch.float64),
    ],
)
def test_every_name_of_a_dtype(given: str | torch.dtype, expected: torch.dtype) -> None:
    """A name in the table that stands for another dtype."""
    assert resolve_dtype(given, CPU) is expected


@pytest.mark.parametrize("given", ["int8", "half-ish", "", torch.int8, torch.complex64])
def test_other_dtypes_are_refused_with_the_list(given: str | torch.dtype) -> None:
    """A dtype in which no model computes reaches transformers and fails there in its own words."""
    with pytest.raises(ConfigError, match="auto, bfloat16, float16, float32, float64"):
        resolve_dtype(given, CPU)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "avx2": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True, "neon": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_on_a_cpu_asks_what_the_cpu_computes(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    """Emulated bfloat16 taken for real bfloat16, which is slower than float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_dtype("auto", CPU) is expected


def test_auto_with_a_torch_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """AttributeError with releases of torch that are older than the question."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_dtype("auto", CPU) is torch.float32


@pytest.mark.parametrize(
    ("computes_bfloat16", "expected"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_auto_on_cuda_does_not_count_emulation(
    monkeypatch: pytest.MonkeyPatch, computes_bfloat16: bool, expected: torch.dtype
) -> None:
    """Torch says yes by default for GPUs that only emulate bfloat16."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda *, including_emulation=True: including_emulation or computes_bfloat16,
    )
    assert resolve_dtype("auto", torch.device("cuda", 0)) is expected


def test_auto_on_any_other_device_is_float32() -> None:
    """A device of which nothing is known must not get numbers that it may not have."""
    assert resolve_dtype("auto", torch.device("mps")) is torch.float32


def test_auto_device_is_the_cpu_where_there_is_no_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A torch built for an accelerator on a machine without one."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert resolve_device("auto") == CPU


def test_a_named_device_is_taken_as_it_is() -> None:
    """`torch.device` objects refused where names are accepted."""
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


@pytest.mark.parametrize("device", ["warp-drive", "cuda:99", "mps:99", "vulkan"])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    """Torch's assertion or its page of dispatch keys shown to the user."""
    with pytest.raises(ConfigError, match="give 'auto', 'cpu'") as caught:
        resolve_device(device)
    assert device in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
