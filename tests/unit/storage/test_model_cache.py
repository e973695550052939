"""The cache folder: whole or not there, built once, and never taken for whole when it is not."""

import errno
import json
import shutil
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors import SafetensorError

from selfdraft.errors import ConfigError
from selfdraft.storage import model_cache
from selfdraft.storage.model_cache import cache_home, find_damage, obtain_entry, scratch_folder

PATIENCE = 30  # seconds, after which a test that hangs fails instead


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("SELFDRAFT_HOME", str(folder))
    return folder


class Builder:
    """Builds a small entry and counts how often."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, folder: Path) -> None:
        self.num_calls += 1
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")


def test_home_is_the_chosen_folder(home: Path) -> None:
    """`SELFDRAFT_HOME` ignored."""
    assert cache_home() == home


def test_home_is_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty `SELFDRAFT_HOME` taken for the current folder; XDG ignored."""
    monkeypatch.setenv("SELFDRAFT_HOME", "")
    monkeypatch.setattr(model_cache, "user_cache_dir", lambda name, appauthor: f"/cache/{name}")
    assert cache_home() == Path("/cache/selfdraft")


@pytest.mark.skipif("sys.platform != 'linux'")
def test_home_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files written to ~/.cache although the user moved the cache."""
    monkeypatch.delenv("SELFDRAFT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "selfdraft"


def test_an_entry_is_built_once(home: Path) -> None:
    """Conversion repeated on every start."""
    build = Builder()
    first = obtain_entry("entry", build)
    assert first == home / "models" / "entry"
    assert obtain_entry("entry", build) == first
    assert build.num_calls == 1


def test_a_whole_entry_is_read_without_writing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only cache, filled when an image was built, refused because of the lock file."""
    entry = obtain_entry("entry", Builder())

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(model_cache, "FileLock", refuse)
    assert obtain_entry("entry", Builder()) == entry


def test_every_file_is_as_readable_as_the_manifest() -> None:
    """Weights that safetensors writes for their owner only, in a cache that users share."""

    def build(folder: Path) -> None:
        weights = folder / "model.safetensors"
        weights.touch()
        weights.chmod(0o600)

    entry = obtain_entry("entry", build)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in entry.iterdir()}
    assert modes == {stat.S_IMODE((entry / "selfdraft.json").stat().st_mode)}


def truncate(entry: Path) -> None:
    (entry / "model.safetensors").write_bytes(b"weig")


def lose_config(entry: Path) -> None:
    (entry / "config.json").unlink()


def lose_manifest(entry: Path) -> None:
    (entry / "selfdraft.json").unlink()


def garble_manifest(entry: Path) -> None:
    (entry / "selfdraft.json").write_text('{"format": 1, "fil')


def write_other_json(entry: Path) -> None:
    (entry / "selfdraft.json").write_text("[]")


def age(entry: Path) -> None:
    manifest = json.loads((entry / "selfdraft.json").read_text())
    (entry / "selfdraft.json").write_text(json.dumps({**manifest, "format": 0}))


def become_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.touch()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (truncate, "model.safetensors has 4 bytes instead of 7"),
        (lose_config, "config.json is missing"),
        (lose_manifest, "selfdraft.json is missing"),
        (garble_manifest, "selfdraft.json is unreadable"),
        (write_other_json, "selfdraft.json is unreadable"),
        (age, "an earlier version"),
        (become_a_file, "no such folder"),
    ],
)
def test_a_damaged_entry_is_named_and_built_again(
    harm: Callable[[Path], None], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated or incomplete entry loaded, or an error on every start until it is deleted."""
    build = Builder()
    entry = obtain_entry("entry", build)
    harm(entry)
    obtain_entry("entry", build)
    assert build.num_calls == 2
    assert find_damage(entry) is None
    captured = capsys.readouterr()
    assert named in captured.err
    assert str(entry) in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_build_leaves_nothing(home: Path, interruption: type[BaseException]) -> None:
    """Ctrl-C during a conversion leaves half a model that the next start loads."""

    def build(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise interruption

    with pytest.raises(interruption):
        obtain_entry("entry", build)
    assert [path.name for path in (home / "models").iterdir() if path.is_dir()] == []
    assert obtain_entry("entry", Builder()).is_dir()  # the lock is free again


def test_what_a_killed_process_left_is_removed(home: Path) -> None:
    """A gigabyte lost with every kill, or the partial folder taken for a model."""
    leftover = home / "models" / ".entry.partial-abc" / "made"
    leftover.mkdir(parents=True)
    (leftover / "config.json").write_text("{}")
    other = home / "models" / ".other.partial-abc"  # perhaps in use: its lock is not ours
    other.mkdir()
    build = Builder()
    obtain_entry("entry", build)
    assert build.num_calls == 1
    assert not leftover.parent.exists()
    assert other.exists()


def test_the_second_of_two_waits_and_uses_what_the_first_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes that start at once convert twice, or one reads what the other is writing."""
    messages: list[str] = []
    waiting = threading.Event()

    def listen(message: str) -> None:
        messages.append(message)
        waiting.set()

    class SlowBuilder(Builder):
        def __call__(self, folder: Path) -> None:
            assert waiting.wait(PATIENCE)
            super().__call__(folder)

    monkeypatch.setattr(model_cache, "say", listen)
    build = SlowBuilder()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(obtain_entry, "entry", build) for _ in range(2)]
        first, second = (future.result(PATIENCE) for future in futures)
    assert first == second
    assert build.num_calls == 1
    assert messages == ["waiting for another process, which is preparing entry"]


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_unwritable_home_is_a_setting_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """A bare OSError that does not say which folder, nor how to choose another."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SELFDRAFT_HOME", str(file / below))
    with pytest.raises(ConfigError, match="set SELFDRAFT_HOME") as caught:
        obtain_entry("entry", Builder())
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_setting_to_change(error: Exception) -> None:
    """The error of a writer deep in transformers, of which safetensors' is not even an OSError."""

    def build(folder: Path) -> None:
        raise error

    with pytest.raises(ConfigError, match=r"No space left.*set SELFDRAFT_HOME"):
        obtain_entry("entry", build)


def test_other_errors_of_a_builder_pass() -> None:
    """An unreadable model file reported as an unwritable cache."""

    def build(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "model.gguf")

    with pytest.raises(PermissionError, match=r"model\.gguf"):
        obtain_entry("entry", build)


def test_a_scratch_folder_lies_on_the_disk_of_its_target(home: Path) -> None:
    """A rename across disks, which is not atomic or fails."""
    home.mkdir()
    with scratch_folder(home / "file") as scratch:
        assert scratch.parent == home
    assert not scratch.exists()
