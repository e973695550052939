"""The cache folder: what was downloaded or converted once, and is whole.

    <cache>/downloads/NAME.gguf           as it was downloaded, checked by its sha256
    <cache>/models/STEM-SHA12-DTYPE/      an entry: weights, tokenizer, and selfdraft.json

Everything is made in a scratch folder beside its place and then renamed, so a file or folder that
has its final name was once whole, whatever was killed meanwhile. A lock per name lets the second
of two processes wait for the first instead of doing the work twice. Reading takes no lock and
writes nothing, so a filled cache may be read-only.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir
from safetensors import SafetensorError

from selfdraft.errors import ConfigError
from selfdraft.storage.progress import first_line, read_blocks, say

_MANIFEST = "selfdraft.json"
# Of an entry; a higher number makes every older entry be converted again. Entries of format 1 may
# hold random numbers in the place of weights that their GGUF file lacked.
_FORMAT = 2


def cache_home() -> Path:
    """The cache folder: `SELFDRAFT_HOME` if set, else the user's cache folder."""
    chosen = os.environ.get("SELFDRAFT_HOME")
    return Path(chosen or user_cache_dir("selfdraft", appauthor=False)).expanduser().absolute()


def obtain_entry(name: str, build: Callable[[Path], None]) -> Path:
    """The model folder `name`, whole; `build` fills an empty folder with it where it is missing.

    A damaged entry is built again rather than reported: that costs seconds, and deleting it is
    all that its owner could do.

    Raises:
        ConfigError: the cache folder cannot be written.
    """
    entry = cache_home() / "models" / name
    if find_damage(entry) is None:
        return entry
    with exclusive(entry):
        damage = find_damage(entry)  # another process may have built it meanwhile
        if damage is not None:
            _build(entry, build, damage)
    return entry


def find_damage(entry: Path) -> str | None:
    """What is wrong with the entry, or None; sizes only, as hashing costs as much as loading."""
    if not entry.is_dir():
        return "there is no such folder"
    try:
        manifest = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            return "an earlier version of selfdraft made it, which checked less"
        for file, record in manifest["files"].items():
            num_bytes = (entry / file).stat().st_size
            if num_bytes != record["bytes"]:
                return f"{file} has {num_bytes} bytes instead of {record['bytes']}"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} is unreadable ({first_line(error)})"
    return None


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Be the only one, of all processes and threads, who makes `target`.

    Raises:
        ConfigError: the cache folder cannot be written, or the disk is full.
    """
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, target)
    except OSError as error:
        raise _cannot_write(target.parent, error) from error
    try:
        yield
    except (OSError, SafetensorError) as error:
        if _is_disk_full(error):
            raise _cannot_write(target.parent, error) from error
        raise
    finally:
        lock.release()


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder on the disk of `target`, deleted afterwards. Needs `exclusive(target)`."""
    prefix = f".{target.name}.partial-"
    for leftover in target.parent.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(leftover)
    with TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        yield Path(folder)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        for block in read_blocks(content, file.stat().st_size, f"checking {file.name}"):
            digest.update(block)
    return digest.hexdigest()


def _acquire(lock: FileLock, target: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process, which is preparing {target.name}")
        lock.acquire()


def _build(entry: Path, build: Callable[[Path], None], damage: str) -> None:
    with scratch_folder(entry) as scratch:
        if entry.exists():
            say(f"{entry} cannot be trusted ({damage}): it is made again")
            entry.rename(scratch / "damaged")
        made = scratch / "made"
        made.mkdir()
        build(made)
        _write_manifest(made)
        for file in made.iterdir():  # safetensors writes what only its owner may read
            shutil.copymode(made / _MANIFEST, file)
        made.rename(entry)


def _write_manifest(folder: Path) -> None:
    """Record every file: its size for `find_damage`, its sha256 for people who have doubts."""
    files = {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    manifest = json.dumps({"format": _FORMAT, "files": files}, indent=2)
    (folder / _MANIFEST).write_text(manifest + "\n", encoding="utf-8")


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"os error {errno.ENOSPC}" in str(error)  # safetensors writes in Rust


def _cannot_write(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"cannot write to the cache folder {folder} ({first_line(error)}): "
        "set SELFDRAFT_HOME to a folder that you can write to and that has room"
    )
