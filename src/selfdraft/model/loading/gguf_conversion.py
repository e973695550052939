"""GGUF files, converted once into what transformers loads fast.

transformers reads a GGUF file by de-quantising it in Python, and its tokenizer by rebuilding it:
18 seconds for 135 million parameters. The result is saved as safetensors in the cache folder, one
entry per content of the file and dtype, and loads in less than a second from there.
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoTokenizer, GgufConfig, PreTrainedModel

from selfdraft.errors import (
    CorruptDownloadError,
    ModelNotFoundError,
    SelfdraftError,
    UnsupportedModelError,
)
from selfdraft.model.loading.embedded import EmbeddedModel, fetch_embedded
from selfdraft.model.loading.whole_checkpoint import load_whole, require_fitting_tokenizer
from selfdraft.model.placement import dtype_name
from selfdraft.model.structure.probe import decoder_config
from selfdraft.storage.model_cache import obtain_entry, sha256_of
from selfdraft.storage.progress import first_line, say

_MAGIC = b"GGUF"
_ROTARY = ("rope_freqs", "rope_factors")  # tensors of divisors of the angles, no weights
_UNREADABLE = (ValueError, struct.error, KeyError, IndexError, NotImplementedError)


def converted_embedded(model: EmbeddedModel, dtype: torch.dtype) -> Path:
    """The folder of an embedded model in `dtype`; the download happens only if it is missing."""
    stem = Path(model.file_name).stem
    return _obtain(stem, model.sha256, dtype, lambda: fetch_embedded(model))


def converted_file(gguf: Path, dtype: torch.dtype) -> Path:
    """The folder of a GGUF file's model in `dtype`.

    Raises:
        ModelNotFoundError: it is another kind of file.
        CorruptDownloadError: it is not whole.
        UnsupportedModelError: transformers does not know what is in it.
    """
    with gguf.open("rb") as content:
        if content.read(len(_MAGIC)) != _MAGIC:
            raise ModelNotFoundError(
                f"{gguf} is not a GGUF file: give a .gguf file, or the folder of a model"
            )
    return _obtain(gguf.stem, sha256_of(gguf), dtype, lambda: gguf)


def _obtain(stem: str, sha256: str, dtype: torch.dtype, fetch: Callable[[], Path]) -> Path:
    plain_stem = re.sub(r"[^\w.-]", "_", stem, flags=re.ASCII)[:80].lstrip(".")
    name = f"{plain_stem}-{sha256[:12]}-{dtype_name(dtype)}"
    return obtain_entry(name, lambda folder: convert(fetch(), folder, dtype))


def convert(gguf: Path, folder: Path, dtype: torch.dtype) -> None:
    """Fill `folder` with the model and the tokenizer of `gguf`.

    Raises:
        CorruptDownloadError: the file is not whole.
        UnsupportedModelError: transformers does not know what is in it, or not all of it.
    """
    content = _read(gguf)
    _require_all_parts(content, gguf)
    say(f"converting {gguf.name} to {dtype_name(dtype)} (once)")
    source = {"gguf_file": gguf.name, "local_files_only": True}
    settings = GgufConfig(dequantize=True)
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        model = load_whole(
            gguf.parent, str(gguf), quantization_config=settings, dtype=dtype, **source
        )
    except SelfdraftError:
        raise
    except _UNREADABLE as error:
        raise UnsupportedModelError(
            f"transformers cannot read the model in {gguf} ({first_line(error)}): "
            "give the original model, or a newer transformers"
        ) from error
    _require_all_used(content, model, gguf)
    _require_rotary_scaling(content, model, gguf)
    require_fitting_tokenizer(tokenizer, model, str(gguf))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _read(gguf: Path) -> GGUFReader:
    try:
        return GGUFReader(gguf)
    except _UNREADABLE as error:
        raise CorruptDownloadError(
            f"{gguf} is not a whole GGUF file ({first_line(error)}): download it again"
        ) from error


def _value(content: GGUFReader, name: str) -> object:
    field = content.get_field(name)
    return None if field is None else field.contents()


def _require_all_parts(content: GGUFReader, gguf: Path) -> None:
    num_parts = _value(content, "split.count")
    if isinstance(num_parts, int) and num_parts > 1:
        part = _value(content, "split.no")
        which = f"part {part + 1}" if isinstance(part, int) else "a part"
        raise UnsupportedModelError(
            f"{gguf} is {which} of {num_parts} of a model: join the parts with llama.cpp "
            "(llama-gguf-split --merge FIRST_PART JOINED.gguf) and give the joined file"
        )


def _require_all_used(content: GGUFReader, model: PreTrainedModel, gguf: Path) -> None:
    """Every number of the file has a place in the model: transformers drops names it lacks."""
    own = sum(parameter.numel() for parameter in model.parameters())  # tied ones count once
    tensors = [tensor for tensor in content.tensors if not tensor.name.startswith(_ROTARY)]
    found = sum(int(tensor.n_elements) for tensor in tensors)
    if found > own:
        raise UnsupportedModelError(
            f"{gguf} holds {found:,} weights and the model that transformers makes of it {own:,}, "
            "so some would not be used: give the original model, or a newer transformers"
        )


def _require_rotary_scaling(content: GGUFReader, model: PreTrainedModel, gguf: Path) -> None:
    """Angles that the file scales are scaled in the model too: transformers drops most scalings."""
    rope = getattr(decoder_config(model), "rope_parameters", None) or {}
    kind = _value(content, f"{_value(content, 'general.architecture')}.rope.scaling.type")
    has_factors = any(tensor.name.startswith(_ROTARY) for tensor in content.tensors)
    is_scaled = has_factors or kind not in (None, "none")
    if is_scaled and rope.get("rope_type", "default") == "default":
        raise UnsupportedModelError(
            f"{gguf} scales its rotary angles ({kind or 'by factors'}), which transformers does "
            "not read from a GGUF file: give the original model"
        )
