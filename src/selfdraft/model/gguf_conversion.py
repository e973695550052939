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
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from selfdraft.errors import (
    CorruptDownloadError,
    ModelNotFoundError,
    SelfdraftError,
    UnsupportedModelError,
)
from selfdraft.model.embedded import EmbeddedModel, fetch_embedded
from selfdraft.model.model_cache import obtain_entry, sha256_of
from selfdraft.model.placement import dtype_name
from selfdraft.model.progress import first_line, say

_MAGIC = b"GGUF"
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
        UnsupportedModelError: transformers does not know what is in it.
    """
    say(f"converting {gguf.name} to {dtype_name(dtype)} (once)")
    source = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(folder)
        AutoModelForCausalLM.from_pretrained(
            gguf.parent, quantization_config=GgufConfig(dequantize=True), dtype=dtype, **source
        ).save_pretrained(folder)
    except _UNREADABLE as error:
        raise _explain(gguf, error) from error


def _explain(gguf: Path, error: Exception) -> SelfdraftError:
    try:
        GGUFReader(gguf)
    except _UNREADABLE:
        return CorruptDownloadError(
            f"{gguf} is not a whole GGUF file ({first_line(error)}): download it again"
        )
    return UnsupportedModelError(
        f"transformers cannot read the model in {gguf} ({first_line(error)}): "
        "give the original model, or a newer transformers"
    )
