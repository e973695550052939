"""Fingerprints: the same for the same model, another for another, in every respect that counts."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaMLP

from selfdraft.model.structure import fingerprint
from selfdraft.model.structure.fingerprint import fingerprint_of


class DoublingMLP(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_the_same_model_has_the_same_fingerprint() -> None:
    """Guards against a cache that never finds anything, because of addresses or dates."""
    first = fingerprint_of(tiny_model())
    assert fingerprint_of(tiny_model()) == first
    assert first.exact is not None
    assert first.exact != first.weights


@pytest.mark.slow
def test_another_process_gives_the_same_fingerprint(tmp_path: Path) -> None:
    """Guards against what differs from process to process: the order of sets, above all."""
    tiny_model().save_pretrained(tmp_path)
    script = (
        "import sys; from selfdraft.model.loading.load import load_model; "
        "from selfdraft.model.structure.fingerprint import fingerprint_of; "
        "print(fingerprint_of(load_model(sys.argv[1], dtype='float32').model).exact)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 64


def one_weight(model: PreTrainedModel) -> None:
    model.model.layers[2].mlp.down_proj.weight.data[0, 0] += 1


def one_norm(model: PreTrainedModel) -> None:
    model.model.layers[2].input_layernorm.weight.data[63] += 1e-3


@pytest.mark.parametrize("change", [one_weight, one_norm])
def test_other_weights_have_another_fingerprint(change: Callable[[PreTrainedModel], None]) -> None:
    """Guards against a certificate or a skip set of other weights."""
    model = tiny_model()
    before = fingerprint_of(model)
    change(model)
    after = fingerprint_of(model)
    assert after.weights != before.weights
    assert after.exact != before.exact


def test_a_large_tensor_is_sampled_from_end_to_end() -> None:
    """Guards the sampling of tensors that are not read whole: its ends, its bounds, its size."""
    for num_columns in (8193, 9000, 16384, 100_003):
        tensor = torch.arange(num_columns, dtype=torch.int32)
        sample = fingerprint._sample(tensor)
        assert len(sample) == len(set(sample.tolist())) == 64
        assert sample.min() == 0
        assert sample.max() > 0.98 * num_columns
        offset = torch.cat([tensor[:5], tensor])[5:]
        assert torch.equal(fingerprint._sample(offset), sample)


def edited_class(model: PreTrainedModel, _: pytest.MonkeyPatch) -> None:
    model.model.layers[1].mlp.__class__ = DoublingMLP


def edited_method(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    forward = LlamaMLP.forward
    patch.setattr(LlamaMLP, "forward", lambda self, x: 2 * forward(self, x))


def edited_function(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modeling_llama, "rotate_half", lambda x: -x)


def edited_linear(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.nn.Linear, "forward", lambda self, x: x @ self.weight.T)


def edited_config(model: PreTrainedModel, _: pytest.MonkeyPatch) -> None:
    model.config.attention_bias = True


def edited_attribute(model: PreTrainedModel, _: pytest.MonkeyPatch) -> None:
    model.model.layers[1].input_layernorm.variance_epsilon = 1e-2


def edited_attention(model: PreTrainedModel, _: pytest.MonkeyPatch) -> None:
    model.set_attn_implementation("eager")


def raise_version_of(package: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fingerprint, "version", lambda name: "99" if name == package else version(name))


def other_torch(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch, "__version__", "99.0")


def other_transformers(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    raise_version_of("transformers", patch)


def other_selfdraft(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    raise_version_of("selfdraft", patch)


def other_processor(_: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")


@pytest.mark.parametrize(
    "change",
    [
        edited_class,
        edited_method,
        edited_function,
        edited_linear,
        edited_config,
        edited_attribute,
        edited_attention,
        other_torch,
        other_transformers,
        other_selfdraft,
        other_processor,
    ],
)
def test_other_code_has_another_exact_fingerprint(
    change: Callable[[PreTrainedModel, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a certificate of code that is not what runs; skip sets are kept."""
    model = tiny_model()
    before = fingerprint_of(model)
    change(model, monkeypatch)
    after = fingerprint_of(model)
    assert after.exact is not None
    assert after.exact != before.exact
    assert after.weights == before.weights


def scaling(forward: Callable[..., Tensor], factor: float) -> Callable[..., Tensor]:
    def scaled(mlp: LlamaMLP, x: Tensor) -> Tensor:
        return forward(mlp, x) * factor

    return scaled


def plain(mlp: LlamaMLP, x: Tensor) -> Tensor:
    return mlp.down_proj(mlp.up_proj(x))


def test_what_a_wrapper_wraps_is_part_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards decorated methods, whose own code is the decorator's."""
    found = set()
    for wrapped, factor in ((LlamaMLP.forward, 1.0), (plain, 1.0), (plain, 2.0)):
        with monkeypatch.context() as patch:
            patch.setattr(LlamaMLP, "forward", scaling(wrapped, factor))
            found.add(fingerprint_of(tiny_model()).exact)
    assert len(found) == 3


def with_hook(model: PreTrainedModel) -> None:
    model.model.layers[1].register_forward_hook(lambda *_: None)


def with_own_forward(model: PreTrainedModel) -> None:
    mlp = model.model.layers[1].mlp
    mlp.forward = mlp.forward


def with_int8(model: PreTrainedModel) -> None:
    model.model.layers[1].mlp.register_buffer("packed", torch.zeros(3, 3, dtype=torch.int8))


def with_opaque_weight(model: PreTrainedModel) -> None:
    weight = model.model.layers[1].mlp.up_proj.weight
    opaque: Any = torch.nn.Parameter(weight.detach().to_mkldnn(), requires_grad=False)
    model.model.layers[1].mlp.up_proj.weight = opaque


@pytest.mark.parametrize("change", [with_hook, with_own_forward, with_int8, with_opaque_weight])
def test_what_cannot_be_looked_at_has_no_exact_fingerprint(
    change: Callable[[PreTrainedModel], None],
) -> None:
    """Guards against a certificate of a model whose classes and weights do not say all."""
    model = tiny_model()
    change(model)
    found = fingerprint_of(model)
    assert found.exact is None
    assert len(found.weights) == 64


def test_taking_a_fingerprint_leaves_the_weights_alone() -> None:
    """Guards against a sample that is a view and is written to."""
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fingerprint_of(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
