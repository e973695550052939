"""Tensors in a safetensors file that selfdraft keeps for itself, written and read one by one.

The library's own writer copies everything before it writes, and what its reader maps begins
anywhere in a page of 4 KiB, which kernels that wait for memory notice in every pass. Here no byte
is in memory twice, and what is read lies as if it had just been computed. Any safetensors library
reads these files.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from selfdraft.model.json_document import DamagedDocumentError

_DTYPES = {
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
}
_LENGTH_BYTES = 8  # of the header's length, which begins a file
_METADATA = "__metadata__"
_CHECKSUMS = "checksums"


@dataclass(frozen=True, slots=True)
class TensorForm:
    """What a tensor is, apart from its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorForm":
        """That of `tensor`."""
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
    header = _header({name: TensorForm.of(t) for name, t in tensors.items()}, metadata)
    sums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    header[_METADATA][_CHECKSUMS] = json.dumps(sums)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
        stream.write(text)
        for tensor in tensors.values():
            stream.write(_bytes_of(tensor))


def read_tensors(
    file: Path, forms: Mapping[str, TensorForm], metadata: Mapping[str, str]
) -> dict[str, Tensor] | None:
    """The tensors that `write_tensors` wrote with these names, forms and metadata.

    None if there is no such file that can be opened.

    Raises:
        DamagedDocumentError: the file is another one, or not whole.
    """
    try:
        stream = file.open("rb")
    except OSError:  # not there, or not ours to read
        return None
    with stream:
        try:
            return _read(stream, forms, metadata)
        except OSError as error:
            raise DamagedDocumentError(f"it cannot be read: {error}") from error


def _read(
    stream: IO[bytes], forms: Mapping[str, TensorForm], metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    num_bytes = os.fstat(stream.fileno()).st_size
    header, header_bytes = _read_header(stream, num_bytes)
    sums = _take_checksums(header)
    if header != _header(forms, metadata):
        raise DamagedDocumentError("it holds something else")
    expected = header_bytes + sum(form.num_bytes for form in forms.values())
    if num_bytes != expected:
        raise DamagedDocumentError(f"it has {num_bytes:,} bytes instead of {expected:,}")
    tensors = {}
    for name, form in forms.items():
        tensor = torch.empty(form.shape, dtype=form.dtype)
        stream.readinto(_bytes_of(tensor))  # type: ignore[attr-defined]  # of a file it does
        if _checksum(tensor) != sums.get(name):
            raise DamagedDocumentError(f"{name} is not what was written")
        tensors[name] = tensor
    return tensors


def _read_header(stream: IO[bytes], num_bytes: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if length > num_bytes:
        raise DamagedDocumentError("it is no safetensors file")
    try:
        header = json.loads(stream.read(length))
    except (ValueError, RecursionError) as error:
        raise DamagedDocumentError("it is no safetensors file") from error
    if not isinstance(header, dict):
        raise DamagedDocumentError("it is no safetensors file")
    return header, _LENGTH_BYTES + length


def _take_checksums(header: dict[str, Any]) -> dict[str, int]:
    try:
        sums = json.loads(header[_METADATA].pop(_CHECKSUMS))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDocumentError("it has no checksums") from error
    if not isinstance(sums, dict):
        raise DamagedDocumentError("it has no checksums")
    return sums


def _header(forms: Mapping[str, TensorForm], metadata: Mapping[str, str]) -> dict[str, Any]:
    """As safetensors has it: dtype, shape and place of every tensor, one behind the other."""
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name, form in forms.items():
        start, end = end, end + form.num_bytes
        header[name] = {
            "dtype": _DTYPES[form.dtype],
            "shape": [*form.shape],
            "data_offsets": [start, end],
        }
    return header


def _checksum(tensor: Tensor) -> int:
    """The sum of its bytes, eight at a time: as fast as they are read, and damage shows in it."""
    flat = tensor.reshape(-1).view(torch.uint8)
    border = flat.numel() // 8 * 8
    return int(flat[:border].view(torch.int64).sum()) + int(flat[border:].sum())


def _bytes_of(tensor: Tensor) -> memoryview:
    numbers: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)
