"""Copies of the weights in few bits, on disk, so that they are rounded once and not at every load.

    <cache>/copies/WEIGHTS-BITS-KEY.safetensors

A file is named by what its bits depend on: the weights, how they are rounded, and how torch lays
them out for this processor. The fingerprint of the weights looks at each tensor in a few places
only, so weights that were edited by hand elsewhere may find the copy of what they were: like
everything about a draft, that costs speed and never the text.

The cache is a shortcut. What is damaged is deleted and made again; where nothing can be written,
that is said once. `SELFDRAFT_COPY_CACHE` is how many GiB the folder may hold (16 unless set); the
files that were not used for longest go first. 0 switches reading and writing off.
"""

import contextlib
import hashlib
import inspect
import os
import platform
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from selfdraft.errors import ConfigError
from selfdraft.model.draft_plan import WeightBits
from selfdraft.model.kernels import int4_dot, rounding
from selfdraft.model.weights import low_bit_linear
from selfdraft.storage.json_document import DamagedDocumentError
from selfdraft.storage.model_cache import cache_home, scratch_folder
from selfdraft.storage.progress import first_line, say
from selfdraft.storage.tensor_file import TensorForm, read_tensors, write_tensors

_VARIABLE = "SELFDRAFT_COPY_CACHE"
_DEFAULT_GIB = 16.0
_GIB = 2**30
_FORMAT = "1"
_WORTH_KEEPING = 128 * 2**20  # bytes; a smaller copy is rounded in about a second


class CopyCache:
    """The copies of one model's weights, named by `Fingerprint.weights`."""

    def __init__(self, weights: str, *, is_written: bool) -> None:
        """`is_written` false only reads what is there.

        Raises:
            ConfigError: `SELFDRAFT_COPY_CACHE` is no number of GiB.
        """
        copies_limit()  # a wrong one is said before anything is computed
        self._weights = weights
        self._is_written = is_written

    def file(self, bits: WeightBits) -> Path:
        """Where the copy with `bits` is, if it is kept."""
        key = hashlib.sha256(repr(self._metadata(bits)).encode()).hexdigest()
        return copies_folder() / f"{self._weights[:32]}-{bits}bit-{key[:12]}.safetensors"

    def recall(self, bits: WeightBits, forms: Mapping[str, TensorForm]) -> dict[str, Tensor] | None:
        """The tensors of the copy, if they are kept; `forms` are what this model's must be."""
        if copies_limit() == 0:
            return None
        file = self.file(bits)
        try:
            tensors = read_tensors(file, forms, self._metadata(bits))
        except DamagedDocumentError as error:
            _delete_damaged(file, error)
            return None
        if tensors is not None:
            _note_use(file)
        return tensors

    def remember(self, bits: WeightBits, tensors: Mapping[str, Tensor]) -> None:
        """Keep `tensors` for the next load, if they are large enough to be worth it."""
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        if not self._is_written or not _WORTH_KEEPING <= num_bytes <= copies_limit():
            return
        file = self.file(bits)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _require_room(file.parent, num_bytes)
            with FileLock(file.with_name(f".{file.name}.lock"), timeout=0):
                with scratch_folder(file) as scratch:
                    made = scratch / file.name
                    write_tensors(made, tensors, self._metadata(bits))
                    made.replace(file)
                _forget_oldest(file.parent, copies_limit())
        except Timeout:  # another process writes the very same
            return
        except (OSError, NotImplementedError) as error:
            _say_once(
                f"the copy of the weights in {bits} bits is not kept in {file.parent} "
                f"({first_line(error)}): each load rounds anew; SELFDRAFT_HOME names another "
                f"folder, and {_VARIABLE}=0 keeps none"
            )

    def _metadata(self, bits: WeightBits) -> dict[str, str]:
        return {
            "format": _FORMAT,
            "weights": self._weights,
            "weight_bits": str(bits),
            "rounding": _rounding_code(),
            # The kernels' layout follows the width of the processor's vectors.
            "layout": f"torch {torch.__version__} {platform.machine()} "
            f"{torch.backends.cpu.get_cpu_capability()} "
            f"{'own kernel' if int4_dot.is_there() else ''}",
        }


def copies_folder() -> Path:
    """Where copies are kept."""
    return cache_home() / "copies"


def copies_bytes() -> int:
    """Bytes of all kept copies, those of other models and damaged ones included."""
    return sum(num_bytes for _, num_bytes, _ in _kept(copies_folder()))


def copies_limit() -> int:
    """Most bytes that copies may take on disk; 0 is no copy on disk.

    Raises:
        ConfigError: `SELFDRAFT_COPY_CACHE` is no number of GiB.
    """
    text = os.environ.get(_VARIABLE, "").strip()
    try:
        gibibytes = float(text) if text else _DEFAULT_GIB
        return max(0, int(gibibytes * _GIB))
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{_VARIABLE} is {text!r}: give the GiB that copies of weights may take on disk, or 0 "
            "to keep none"
        ) from error


def _delete_damaged(file: Path, damage: DamagedDocumentError) -> None:
    """Nobody wants it back: it is made of the weights, and as large as a third of them."""
    say(f"{file} is damaged ({damage}): the weights are rounded again")
    with contextlib.suppress(OSError):  # a cache that is read-only
        file.unlink(missing_ok=True)


def _note_use(file: Path) -> None:
    try:
        os.utime(file)  # the date says which was not used for longest
    except OSError:  # a filled cache may be read-only
        return


def _require_room(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 2 * num_bytes:
        raise OSError(f"{num_bytes:,} bytes would fill the disk, which has {free:,} left")


def _forget_oldest(folder: Path, limit: int) -> None:
    total = 0
    for _, num_bytes, file in sorted(_kept(folder), reverse=True):
        total += num_bytes
        if total > limit:
            file.unlink(missing_ok=True)


def _kept(folder: Path) -> list[tuple[float, int, Path]]:
    """Date, bytes and place of every copy, and of those that were set aside."""
    kept = []
    for file in folder.glob("*.safetensors*"):
        try:
            status = file.stat()
        except OSError:  # another process was faster
            continue
        if not file.name.startswith("."):
            kept.append((status.st_mtime, status.st_size, file))
    return kept


@cache
def _rounding_code() -> str:
    """What rounds: a version number stands still while its code is being worked on."""
    digest = hashlib.sha256()
    for module in (rounding, low_bit_linear, int4_dot):
        try:
            digest.update(inspect.getsource(module).encode())
        except OSError:  # an installation without sources does not change by itself
            digest.update(version("selfdraft").encode())
    return digest.hexdigest()[:16]


@cache
def _say_once(message: str) -> None:
    say(message)
