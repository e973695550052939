"""Loading a model by whatever name a user has for it.

A name is, in this order: an alias (`smollm2-135m`), a `.gguf` file, a folder with a transformers
model, or a Hugging Face hub id. `pull` turns each of them into a folder that transformers can load
at once, and `load_model` loads that folder; so a model is converted or downloaded in one place,
and is the same on the first run as on every later one.
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from selfdraft.errors import (
    CorruptDownloadError,
    ModelNotFoundError,
    SelfdraftError,
    UnsupportedModelError,
)
from selfdraft.model.loading.embedded import EMBEDDED_MODELS, EmbeddedModel
from selfdraft.model.loading.gguf_conversion import converted_embedded, converted_file
from selfdraft.model.loading.hub import download_from_hub
from selfdraft.model.loading.whole_checkpoint import (
    load_whole,
    require_fitting_tokenizer,
    require_readable_config,
    require_rotary_settings,
)
from selfdraft.model.placement import resolve_device, resolve_dtype
from selfdraft.storage.progress import first_line, quiet_transformers

# transformers raises the same error for a tokenizer that is broken and for one that is not there.
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "tekken.json")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode on its device, with its tokenizer if it has one."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str


def load_model(
    name: str | Path, *, dtype: str | torch.dtype = "auto", device: str | torch.device = "auto"
) -> LoadedModel:
    """Load a model by alias, `.gguf` file, folder or hub id; the first load may download it.

    Raises:
        ConfigError: the dtype or the device is not one, or the cache folder cannot be written.
        ModelNotFoundError: nothing loadable has this name.
        CorruptDownloadError: a file of the model is damaged, or a weight is missing or unused.
        UnsupportedModelError: transformers does not know this kind of model, or would read the
            files wrongly (docs/loading.md).
    """
    chosen_device = resolve_device(device)
    chosen_dtype = resolve_dtype(dtype, chosen_device)
    folder = pull(name, dtype=chosen_dtype, device=chosen_device)
    model, tokenizer = _load_folder(folder, chosen_dtype)
    require_rotary_settings(folder, model)
    if tokenizer is not None:
        require_fitting_tokenizer(tokenizer, model, str(name))
    model.to(chosen_device)  # type: ignore[arg-type]  # transformers wraps it without its type
    embedded = _find_embedded(name)
    return LoadedModel(model.eval(), tokenizer, embedded.alias if embedded else str(name))


def pull(
    name: str | Path, *, dtype: str | torch.dtype = "auto", device: str | torch.device = "auto"
) -> Path:
    """The folder from which `load_model` loads with the same arguments, downloaded and converted.

    Raises:
        As `load_model`.
    """
    chosen_dtype = resolve_dtype(dtype, resolve_device(device))
    embedded = _find_embedded(name)
    if embedded is not None:
        return converted_embedded(embedded, chosen_dtype)
    path = Path(name).expanduser()
    if path.is_file():
        return converted_file(path, chosen_dtype)
    if path.is_dir():
        return path
    if _is_written_as_path(name):
        raise ModelNotFoundError(f"no model {str(name)!r}: there is no such file or folder")
    return _pull_from_hub(str(name))


def _find_embedded(name: str | Path) -> EmbeddedModel | None:
    return EMBEDDED_MODELS.get(name.lower()) if isinstance(name, str) else None


def _is_written_as_path(name: str | Path) -> bool:
    if isinstance(name, Path):
        return True
    is_hub_id_shaped = name.count("/") <= 1 and "\\" not in name
    return not is_hub_id_shaped or name.startswith((".", "/", "~")) or name.endswith(".gguf")


def _pull_from_hub(name: str) -> Path:
    try:
        return download_from_hub(name)
    except ModelNotFoundError as error:
        close = get_close_matches(name.lower(), EMBEDDED_MODELS, n=1)
        suggestion = f"Did you mean {close[0]}? " if close else ""
        aliases = ", ".join(EMBEDDED_MODELS)
        raise ModelNotFoundError(f"{error}. {suggestion}Aliases: {aliases}") from error


def _load_folder(
    folder: Path, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    _require_model_folder(folder)
    try:
        require_readable_config(folder)
        with quiet_transformers():
            model = load_whole(folder, str(folder), dtype=dtype, local_files_only=True)
            return model, _load_tokenizer(folder)
    except SelfdraftError:
        raise
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CorruptDownloadError(
            f"a file in {folder} is damaged ({first_line(error)}): delete the folder, then "
            "download or convert the model again"
        ) from error
    except OSError as error:
        raise ModelNotFoundError(f"no whole model in {folder}: {first_line(error)}") from error
    except (ValueError, KeyError, ImportError) as error:  # a kind, or a package, it does not have
        raise UnsupportedModelError(
            f"transformers cannot load {folder}: {first_line(error)}"
        ) from error


def _require_model_folder(folder: Path) -> None:
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return
    ggufs = sorted(file.name for file in folder.glob("*.gguf"))
    remedy = f"one of its GGUF files ({', '.join(ggufs)})" if ggufs else "the folder of a model"
    raise ModelNotFoundError(f"no model in {folder}: it has no config.json; give {remedy}")


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    if not any(file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True
    )
    return tokenizer
