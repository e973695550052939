"""GGUF files: one conversion per content and dtype, and clear words for files that are no such."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
import torch
from gguf import GGUFWriter

from selfdraft.errors import CorruptDownloadError, ModelNotFoundError, UnsupportedModelError
from selfdraft.model.loading import gguf_conversion
from selfdraft.model.loading.embedded import EmbeddedModel
from selfdraft.model.loading.gguf_conversion import converted_embedded, converted_file
from selfdraft.model.loading.load import load_model
from selfdraft.storage.model_cache import find_damage

MODEL = EmbeddedModel("toy", "llm-toy==1.0", "llm_toy/toy.Q4.gguf", 4, "0123456789abcdef" * 4)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("SELFDRAFT_HOME", str(folder))
    return folder


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, torch.dtype]]:
    """What was converted, by a fake that only writes a config."""
    done: list[tuple[Path, torch.dtype]] = []

    def convert(gguf: Path, folder: Path, dtype: torch.dtype) -> None:
        done.append((gguf, dtype))
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(gguf_conversion, "convert", convert)
    return done


def write_gguf(path: Path, architecture: str = "nonesuch") -> Path:
    """A GGUF file that is whole, of a model without layers."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_one_conversion_per_content_and_dtype(
    home: Path, tmp_path: Path, conversions: list[tuple[Path, torch.dtype]]
) -> None:
    """Weights of another dtype, or of a file that was replaced under its name, are served."""
    gguf = tmp_path / "toy.gguf"
    gguf.write_bytes(b"GGUF one")
    first = converted_file(gguf, torch.bfloat16)
    assert converted_file(gguf, torch.bfloat16) == first
    assert converted_file(gguf, torch.float32) != first
    gguf.write_bytes(b"GGUF two")
    assert converted_file(gguf, torch.bfloat16) != first
    assert [dtype for _, dtype in conversions] == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert first.parent == home / "models"
    assert first.name.startswith("toy-")
    assert first.name.endswith("-bfloat16")


@pytest.mark.parametrize("stem", ["a [b] *c", ".hidden", "ü" * 100, "x" * 200])
def test_any_file_name_makes_a_folder(
    home: Path, tmp_path: Path, conversions: list[tuple[Path, torch.dtype]], stem: str
) -> None:
    """Names that a pattern matches wrongly, that hide the entry, or that are too long."""
    gguf = tmp_path / f"{stem}.gguf"
    gguf.write_bytes(b"GGUF")
    entry = converted_file(gguf, torch.float32)
    assert converted_file(gguf, torch.float32) == entry
    assert len(conversions) == 1
    assert not entry.name.startswith(".")
    assert len(entry.name) < 120


def test_a_second_dtype_of_an_alias_needs_the_same_file(
    monkeypatch: pytest.MonkeyPatch, conversions: list[tuple[Path, torch.dtype]]
) -> None:
    """The download is asked for although the entry is there, which fails without a network."""
    fetched: list[EmbeddedModel] = []

    def fetch(model: EmbeddedModel) -> Path:
        fetched.append(model)
        return Path("/downloads") / model.file_name

    monkeypatch.setattr(gguf_conversion, "fetch_embedded", fetch)
    entry = converted_embedded(MODEL, torch.bfloat16)
    assert entry.name == "toy.Q4-0123456789ab-bfloat16"
    converted_embedded(MODEL, torch.bfloat16)
    assert len(fetched) == 1
    converted_embedded(MODEL, torch.float32)
    assert [dtype for _, dtype in conversions] == [torch.bfloat16, torch.float32]


def test_another_kind_of_file(tmp_path: Path) -> None:
    """Weights in another format: transformers' parser fails far from the cause."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelNotFoundError, match=r"not a GGUF file: give a \.gguf file"):
        converted_file(weights, torch.float32)


def test_a_file_that_is_cut_short(home: Path, tmp_path: Path) -> None:
    """A `struct.error` for an interrupted download."""
    gguf = write_gguf(tmp_path / "toy.gguf")
    gguf.write_bytes(gguf.read_bytes()[:40])
    with pytest.raises(CorruptDownloadError, match=r"toy\.gguf is not a whole GGUF file"):
        converted_file(gguf, torch.float32)
    assert [path for path in (home / "models").iterdir() if path.is_dir()] == []


def test_a_model_that_transformers_does_not_know(tmp_path: Path) -> None:
    """A whole file reported as damaged, so that the user downloads it again and again."""
    gguf = write_gguf(tmp_path / "toy.gguf")
    with pytest.raises(UnsupportedModelError, match="transformers cannot read"):
        converted_file(gguf, torch.float32)


def test_a_whole_file(home: Path, tmp_path: Path) -> None:
    """Guards against refusing a file that nothing is wrong with; `none` is no scaling."""
    for scaling in (None, "none"):
        gguf = tiny_gguf.write_gguf(tmp_path / f"{scaling}.gguf", rope_scaling=scaling)
        assert (converted_file(gguf, torch.float32) / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (["blk.1."], r"lacks model\.layers\.1\..* and 5 more"),
        (["blk.1.ffn_up"], r"lacks model\.layers\.1\.mlp\.up_proj\.weight,"),
        (["output_norm"], r"lacks model\.norm\.weight,"),
        (["token_embd", "output.weight"], r"lacks lm_head\.weight, model\.embed_tokens"),
    ],
)
def test_a_file_without_some_of_its_tensors(
    home: Path, tmp_path: Path, left_out: list[str], message: str
) -> None:
    """Guards against random numbers that are kept and used from then on."""
    gguf = tiny_gguf.write_gguf(tmp_path / "toy.gguf", leave_out=left_out)
    with pytest.raises(CorruptDownloadError, match=message):
        converted_file(gguf, torch.float32)
    assert [path for path in (home / "models").iterdir() if path.is_dir()] == []


def test_a_file_without_its_head_is_a_tied_model(home: Path, tmp_path: Path) -> None:
    """Guards against a random head: the format has no other word for a tied one (llama.cpp too)."""
    gguf = tiny_gguf.write_gguf(tmp_path / "toy.gguf", leave_out=["output.weight"])
    model = load_model(gguf, dtype="float32").model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": 2}, "is part 1 of 2 of a model: join the parts"),
        ({"add": {"blk.0.attn_q.bias": (64,)}}, "66,944 weights and .* 66,880"),
        ({"add": {"blk.2.ffn_up.weight": (96, 64)}}, "some would not be used"),
        ({"add": {"rope_freqs.weight": (8,)}}, "scales its rotary angles"),
        ({"rope_scaling": "yarn"}, r"rotary angles \(yarn\)"),
    ],
)
def test_a_file_of_which_a_part_would_be_lost(
    home: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """Guards against what transformers leaves out of a GGUF file without a word."""
    gguf = tiny_gguf.write_gguf(tmp_path / "toy.gguf", **options)
    with pytest.raises(UnsupportedModelError, match=message):
        converted_file(gguf, torch.float32)
    assert not (home / "models").exists() or list((home / "models").glob("toy*")) == []


def test_what_an_earlier_version_kept_is_looked_at_again(home: Path, tmp_path: Path) -> None:
    """Guards against random numbers that were kept when nothing looked for them."""
    gguf = tiny_gguf.write_gguf(tmp_path / "toy.gguf")
    entry = converted_file(gguf, torch.float32)
    manifest = json.loads((entry / "selfdraft.json").read_text())
    (entry / "selfdraft.json").write_text(json.dumps(manifest | {"format": 1}))
    assert find_damage(entry) == "an earlier version of selfdraft made it, which checked less"
    converted_file(gguf, torch.float32)
    assert find_damage(entry) is None
