"""Our own RMS norm: the model's numbers, each row by itself, and nothing that only looks alike."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from selfdraft.model.kernels import rms_norm
from selfdraft.model.kernels.rms_norm import KernelNorm, rms_norms

needs_kernel = pytest.mark.skipif(
    not rms_norm.is_there(), reason="no kernel: no C compiler at install, or no AVX512"
)


def with_random_weight(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for weight in norm.parameters():
        weight.data = (1 + 0.3 * torch.randn(weight.shape, generator=generator)).bfloat16()
    return norm.requires_grad_(False)


def make_hidden(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return (scale * torch.randn(*shape, generator=generator)).bfloat16()


def ours(norm: nn.Module) -> nn.Module:
    twin = rms_norms(norm)[norm]
    assert isinstance(twin, KernelNorm)
    return twin


@needs_kernel
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize("width", [16, 64, 576, 1536])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_it_gives_what_the_model_gives(kind: type[nn.Module], width: int, scale: float) -> None:
    """Guards against a forgotten epsilon, and a weight that is applied before rounding."""
    norm = with_random_weight(kind(width, eps=1e-5))
    hidden = make_hidden(1, 9, width, scale=scale)
    found, expected = ours(norm)(hidden), norm(hidden)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=0)
    assert (found == expected).float().mean() > 0.99  # a sum's last bit seldom decides


@needs_kernel
def test_each_row_by_itself() -> None:
    """Guards against bits that depend on the rows beside it, and heads that are taken for rows."""
    norm = ours(with_random_weight(Qwen3RMSNorm(64)))
    hidden = make_hidden(1, 5, 3, 64)
    rows = [norm(hidden[:, row : row + 1]) for row in range(5)]
    assert torch.equal(norm(hidden), torch.cat(rows, dim=1))
    assert torch.equal(norm(hidden.transpose(1, 2)), norm(hidden).transpose(1, 2))


@needs_kernel
def test_what_only_looks_alike_is_left_alone() -> None:
    """Guards against norms with another formula, and against hooks and code that are lost."""
    hooked, replaced = (with_random_weight(LlamaRMSNorm(64)) for _ in range(2))
    hooked.register_forward_hook(lambda *_: None)
    replaced.forward = lambda hidden: hidden
    others = [
        with_random_weight(GemmaRMSNorm(64)),  # 1 + weight
        with_random_weight(nn.LayerNorm(64)),
        with_random_weight(nn.LayerNorm(64, bias=False)),  # takes a mean away
        with_random_weight(LlamaRMSNorm(40)),  # no whole vectors
        LlamaRMSNorm(64),  # float32
        nn.Linear(64, 64).bfloat16(),
        hooked,
        replaced,
    ]
    assert rms_norms(nn.ModuleList(others)) == {}
    assert rms_norms(with_random_weight(T5LayerNorm(64))) != {}  # another name, the same formula


@needs_kernel
def test_the_weight_is_the_models_own() -> None:
    """Guards against a copy that does not follow the weight."""
    norm = with_random_weight(LlamaRMSNorm(64))
    assert ours(norm).weight is norm.weight


@needs_kernel
def test_another_type_is_refused() -> None:
    """Guards against float32 that is read as bfloat16."""
    norm = ours(with_random_weight(LlamaRMSNorm(64)))
    with pytest.raises(RuntimeError, match="float32"):
        norm(torch.ones(2, 64))
    with pytest.raises(RuntimeError, match="32"):
        norm(torch.ones(2, 32).bfloat16())
    norm.weight.data = norm.weight.data.half()
    with pytest.raises(RuntimeError, match="float16"):
        norm(torch.ones(2, 64).bfloat16())


def test_nothing_is_taken_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against models that cannot be loaded on another CPU."""
    monkeypatch.setattr(rms_norm, "_kernel", lambda: None)
    assert rms_norms(with_random_weight(LlamaRMSNorm(64))) == {}
