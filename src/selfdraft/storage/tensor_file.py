"""Tensors in a safetensors file that selfdraft keeps for itself, with a checksum for each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from selfdraft.storage.huge_pages import HugePages
from selfdraft.storage.json_document import DamagedDocumentError

_CHECKSUMS = "checksums"


@dataclass(frozen=True, slots=True)
class TensorForm:
    """What a tensor is, apart from its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorForm":
        """The shape and type of `tensor`."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def num_bytes(self) -> int:
        """Bytes of such a tensor."""
        return prod(self.shape) * self.dtype.itemsize


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous `tensors` of the CPU to `file`, which exists in parts while this runs.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    sums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    try:
        save_file({**tensors}, file, {**metadata, _CHECKSUMS: json.dumps(sums)})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_tensors(
    file: Path, forms: Mapping[str, TensorForm], metadata: Mapping[str, str]
) -> dict[str, Tensor] | None:
    """The tensors that `write_tensors` wrote with these names, forms and metadata.

    None if there is no such file that can be opened.

    Raises:
        DamagedDocumentError: the file is another one, or not whole.
    """
    try:
        file.open("rb").close()
    except OSError:  # not there, or not ours to read
        return None
    try:
        return _read(file, forms, metadata)
    except (SafetensorError, OSError) as error:
        raise DamagedDocumentError(f"it cannot be read: {error}") from error


def _read(
    file: Path, forms: Mapping[str, TensorForm], metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    with safe_open(file, framework="pt") as stored:
        found: dict[str, str] = stored.metadata() or {}
        sums = _take_checksums(found)
        if found != metadata or set(stored.keys()) != set(forms):
            raise DamagedDocumentError("it holds something else")
        tensors, pages = {}, HugePages()
        for name, form in forms.items():
            # A copy: what is mapped begins anywhere, and its file may be removed.
            tensor = pages.copy(stored.get_tensor(name))
            if TensorForm.of(tensor) != form:
                raise DamagedDocumentError("it holds something else")
            if _checksum(tensor) != sums.get(name):
                raise DamagedDocumentError(f"{name} is not what was written")
            tensors[name] = tensor
    return tensors


def _take_checksums(metadata: dict[str, str]) -> dict[str, int]:
    try:
        sums = json.loads(metadata.pop(_CHECKSUMS))
    except (ValueError, KeyError) as error:
        raise DamagedDocumentError("it has no checksums") from error
    if not isinstance(sums, dict):
        raise DamagedDocumentError("it has no checksums")
    return sums


def _checksum(tensor: Tensor) -> int:
    """The sum of its bytes, eight at a time: as fast as they are read, and damage shows in it."""
    flat = tensor.reshape(-1).view(torch.uint8)
    border = flat.numel() // 8 * 8
    return int(flat[:border].view(torch.int64).sum()) + int(flat[border:].sum())
