"""Weights in large pages: the same numbers, each with a storage of its own, and still shared."""

import mmap
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model
from torch import nn
from transformers import AutoModelForCausalLM

from selfdraft.storage.huge_pages import HugePages


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.uint8])
def test_copies_are_equal_aligned_and_apart(dtype: torch.dtype) -> None:
    """Guards against tensors that lie over one another, or that a file takes for one."""
    pages = HugePages()
    shapes = [(3, 5), (1,), (1000, 77), (7,)]
    originals = [torch.arange(torch.Size(s).numel()).view(s).to(dtype) for s in shapes]
    copies = [pages.copy(tensor) for tensor in originals]
    for original, copied in zip(originals, copies, strict=True):
        assert torch.equal(copied, original)
        assert copied.data_ptr() % 64 == 0
        assert copied.untyped_storage().nbytes() == original.nbytes
    copies[1].zero_()
    assert torch.equal(copies[2], originals[2])


def test_a_tensor_larger_than_what_is_asked_for_at_once() -> None:
    """Guards against a tensor that ends behind its memory."""
    large = torch.arange(70 * 2**20, dtype=torch.uint8)
    pages = HugePages()
    pages.copy(large[:3])
    assert torch.equal(pages.copy(large), large)
    assert torch.equal(pages.copy(large[:5]), large[:5])


def test_copies_outlive_the_pages() -> None:
    """Guards against memory that goes with the object that asked for it."""
    original = torch.randn(300, 300)
    copied = HugePages().copy(original)
    assert torch.equal(copied.clone(), original)


def test_a_model_is_the_same_and_its_head_still_tied(tmp_path: Path) -> None:
    """Guards against a second copy of the embedding, and a model that cannot be saved any more."""
    model = tiny_model(dtype=torch.bfloat16, hidden_size=512, tie_word_embeddings=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = {name: p.data_ptr() for name, p in model.named_parameters()}
    HugePages().take(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(p.data_ptr() != places[name] for name, p in model.named_parameters())
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    model.save_pretrained(tmp_path)
    state = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_what_is_elsewhere_stays_there() -> None:
    """Guards against weights that are offloaded, or not plain."""
    module = nn.Linear(512, 512, device="meta")
    HugePages().take(module)
    assert module.weight.is_meta


def test_where_there_are_no_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against systems that have no such call."""
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    original = torch.randn(300, 300).T
    copied = HugePages().copy(original)
    assert torch.equal(copied, original)
    assert copied.is_contiguous()
    assert copied.data_ptr() != original.data_ptr()
