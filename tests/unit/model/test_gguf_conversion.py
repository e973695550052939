"""GGUF files: one conversion per content and dtype, and clear words for files that are no such."""

from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter

from selfdraft.errors import CorruptDownloadError, ModelNotFoundError, UnsupportedModelError
from selfdraft.model import gguf_conversion
from selfdraft.model.embedded import EmbeddedModel
from selfdraft.model.gguf_conversion import converted_embedded, converted_file

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
