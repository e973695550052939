"""Checkpoints with something wrong: each is refused with the name of what is wrong.

All of them load in transformers, with a table in its log, and write another text than their model
would: a random one, where a weight is missing.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, framing_tokenizer, tiny_model
from torch import Tensor
from transformers import LlamaModel

from selfdraft.errors import CorruptDownloadError, UnsupportedModelError
from selfdraft.model.loading.load import load_model

Weights = dict[str, Tensor]
MLP = "model.layers.1.mlp"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model of two layers, whose head is its own."""
    tiny_model(num_hidden_layers=2, vocab_size=300).save_pretrained(tmp_path)
    return tmp_path


def edit_weights(folder: Path, edit: Callable[[Weights], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({name: v for name, v in config.items() if v != "removed"}))


def load(folder: Path) -> torch.nn.Module:
    return load_model(folder, dtype="float32", device="cpu").model


def test_a_whole_checkpoint(folder: Path) -> None:
    """Guards against refusing what nothing is wrong with."""
    assert load(folder)


def test_a_base_model_without_a_head(tmp_path: Path) -> None:
    """Guards against a head of random numbers, other ones in each run."""
    model = tiny_model(num_hidden_layers=2, tie_word_embeddings=False)
    assert isinstance(model.model, LlamaModel)
    model.model.save_pretrained(tmp_path)
    with pytest.raises(CorruptDownloadError, match=r"lacks lm_head\.weight.*random.*download it"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("lm_head.weight", r"lacks lm_head\.weight,"),
        ("model.norm.weight", r"lacks model\.norm\.weight,"),
        (f"{MLP}.up_proj.weight", rf"lacks {MLP}\.up_proj\.weight,"),
        ("model.layers.1.", r"lacks .*input_layernorm.* and 5 more"),
        ("model.embed_tokens.weight", r"lacks model\.embed_tokens\.weight"),
    ],
)
def test_weights_that_are_missing(folder: Path, left_out: str, message: str) -> None:
    """Guards against random numbers wherever a name is missing."""
    edit_weights(folder, lambda w: [w.pop(name) for name in list(w) if name.startswith(left_out)])
    with pytest.raises(CorruptDownloadError, match=message):
        load(folder)


def test_a_missing_bias(tmp_path: Path) -> None:
    """Guards against a bias of zeros that nobody trained."""
    tiny_model("qwen2", num_hidden_layers=2).save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda w: w.pop("model.layers.0.self_attn.k_proj.bias"))
    with pytest.raises(CorruptDownloadError, match=r"lacks model\.layers\.0\.self_attn\.k_proj"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{MLP}.up_proj.weight", (3, 64)),
        ("model.norm.weight", (65,)),
        ("model.embed_tokens.weight", (301, 64)),
    ],
)
def test_weights_of_another_shape(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    """Guards against a traceback that speaks of an option nobody set."""
    edit_weights(folder, lambda w: w.__setitem__(name, torch.zeros(shape)))
    message = rf"another shape than its config says for {name} \(\({shape[0]},"
    with pytest.raises(CorruptDownloadError, match=message):
        load(folder)


def test_a_config_of_another_model(folder: Path) -> None:
    """Guards against weights of which only a part is used."""
    edit_config(folder, intermediate_size=96)
    with pytest.raises(CorruptDownloadError, match=r"another shape .* and 2 more"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.1.self_attn.q_proj.bias", (128,)),
        ("model.layers.2.mlp.up_proj.weight", (128, 64)),
        ("lm_head.bias", (300,)),
        (f"{MLP}.up_proj.weight_scale", (128, 1)),
        ("model.layers.0.extra_norm.weight", (64,)),
    ],
)
def test_weights_without_a_place(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    """Guards against a part of the model that is left out because its config does not name it."""
    edit_weights(folder, lambda w: w.__setitem__(name, torch.ones(shape)))
    with pytest.raises(CorruptDownloadError, match=f"holds {name}, for which its config leaves"):
        load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.blocks.0.weight",
        "model.mtp.layers.0.weight",
        "value_head.weight",
        "model.layers.0.self_attn.masked_bias",  # buffers of older versions
        "model.layers.0.self_attn.bias",
        "model.layers.1.self_attn.rotary_emb.inv_freq",
    ],
)
def test_weights_beside_the_decoder(folder: Path, name: str) -> None:
    """Guards against refusing a checkpoint for parts that no text needs."""
    edit_weights(folder, lambda w: w.__setitem__(name, torch.ones(4)))
    assert load(folder)


def test_one_of_three_files_is_missing(tmp_path: Path) -> None:
    """Guards against an interrupted download that is taken for a model."""
    tiny_model(num_hidden_layers=2, vocab_size=300).save_pretrained(
        tmp_path, max_shard_size="200KB"
    )
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) >= 3
    assert load(tmp_path)
    parts[1].unlink()
    with pytest.raises(OSError, match=r"no whole model in .*00002"):
        load(tmp_path)


def test_a_file_of_another_revision_among_three(tmp_path: Path) -> None:
    """Guards against files that are each whole and do not belong together."""
    for name, size in (("one", 128), ("two", 96)):
        tiny_model(num_hidden_layers=2, vocab_size=300, intermediate_size=size).save_pretrained(
            tmp_path / name, max_shard_size="200KB"
        )
    own, other = (sorted((tmp_path / n).glob("model-*.safetensors"))[1] for n in ("one", "two"))
    own.write_bytes(other.read_bytes())
    with pytest.raises(CorruptDownloadError, match="no whole LlamaForCausalLM"):
        load(tmp_path / "one")


def test_two_kinds_of_a_head(folder: Path) -> None:
    """Guards against a head of its own that is thrown away for the word `tied` in the config."""
    edit_config(folder, tie_word_embeddings=True)
    model = load(folder)
    head = load_file(folder / "model.safetensors")["lm_head.weight"]
    assert torch.equal(model.get_output_embeddings().weight, head)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_in_few_bits_without_instructions(folder: Path, dtype: torch.dtype) -> None:
    """Guards against packed numbers that are cast as if they were weights."""
    name = f"{MLP}.up_proj.weight"
    edit_weights(folder, lambda w: w.__setitem__(name, torch.zeros(128, 64).to(dtype)))
    with pytest.raises(UnsupportedModelError, match=f"holds {name} in few bits.*no quantization"):
        load(folder)


@pytest.mark.parametrize("settings", [{"quant_method": "sparkle", "bits": 4}, "sparkle"])
def test_a_kind_of_quantisation_that_nobody_knows(folder: Path, settings: object) -> None:
    """Guards against packed numbers that are cast because the method is only logged."""
    edit_config(folder, quantization_config=settings)
    with pytest.raises(UnsupportedModelError, match=r"quantised by 'sparkle'.*newer transformers"):
        load(folder)


@pytest.mark.parametrize("config", [True, False])
def test_an_adapter(folder: Path, config: bool) -> None:
    """Guards against the base model's text under the adapter's name."""
    (folder / "adapter_config.json").write_text("{}")
    if not config:
        (folder / "config.json").unlink()
    with pytest.raises(UnsupportedModelError, match="LoRA adapter.*merge_and_unload"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"rope_theta": 7.0, "rope_scaling": {"factor": 4.0}, "rope_parameters": "removed"},
            "factor of scaling without the rope_type",
        ),
        (
            {
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0},
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            },
            r"rope_theta 7\.0, where the loaded model has 10000",
        ),
        ({"rope_scaling": {"type": "su", "factor": 2.0}, "rope_parameters": "removed"}, "'su'"),
    ],
)
def test_rotary_settings_that_are_dropped(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    """Guards against angles of another model, in a config that an older library wrote."""
    edit_config(folder, **settings)
    with pytest.raises(UnsupportedModelError, match=message):
        load(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_theta": 500.0, "rope_parameters": "removed"},
        {
            "rope_theta": 500.0,
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": "removed",
        },
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ],
)
def test_rotary_settings_of_every_age(folder: Path, settings: dict[str, Any]) -> None:
    """Guards against refusing how older libraries spell them."""
    edit_config(folder, **settings)
    assert load(folder).config.rope_parameters["rope_theta"] == 500.0


def test_a_tokenizer_of_a_larger_model(tmp_path: Path) -> None:
    """Guards against a vocabulary of which the model has a part."""
    tiny_model(num_hidden_layers=2, vocab_size=96).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"has 269 tokens and the model 96"):
        load(tmp_path)


def test_a_tokenizer_without_the_models_end(tmp_path: Path) -> None:
    """Guards against a model whose tokens another tokenizer shows."""
    tiny_model(num_hidden_layers=2, vocab_size=96, eos_token_id=90).save_pretrained(tmp_path)
    framing_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"ends its texts with token 90.*only 9"):
        load(tmp_path)


def test_numbers_that_are_none(folder: Path) -> None:
    """Guards against weights that overflowed when they were saved."""
    from selfdraft import Engine

    edit_weights(folder, lambda w: w["model.norm.weight"].fill_(float("nan")))
    with pytest.raises(UnsupportedModelError, match="nan"):
        Engine.load(folder, dtype="float32")
