"""Hub ids without a hub: the cache is used, and failures are one line with a remedy."""

from pathlib import Path
from unittest.mock import Mock

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from selfdraft.errors import ModelNotFoundError
from selfdraft.model.loading import hub
from selfdraft.model.loading.hub import download_from_hub

REVISION = "0" * 40


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own cache, empty, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_cached_model_needs_no_network(hub_cache: Path) -> None:
    """A model that is on the disk refused, or served after minutes of retries, when offline."""
    repository = hub_cache / "models--org--name"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    assert download_from_hub("org/name") == snapshot


def test_offline_and_not_cached(hub_cache: Path) -> None:
    """The hub's own exception, which names a cache folder and no remedy."""
    with pytest.raises(ModelNotFoundError, match="check the network") as caught:
        download_from_hub("nobody/nothing")
    assert "'nobody/nothing'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["two words/x", "x" * 200, "-/-"])
def test_not_even_a_hub_id(hub_cache: Path, name: str) -> None:
    """A ValueError about regular expressions."""
    with pytest.raises(ModelNotFoundError, match="ORGANISATION/NAME"):
        download_from_hub(name)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RepositoryNotFoundError("404", response=Mock()), "check the spelling"),
        (GatedRepoError("403", response=Mock()), "accept its licence"),
        (HfHubHTTPError("500 Server Error", response=Mock()), "500 Server Error"),
        (LocalEntryNotFoundError("no route"), "check the network"),
        (hub._TRANSPORT_ERROR("peer closed the connection"), "peer closed the connection"),
    ],
)
def test_each_failure_has_its_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    """A gated model reported as misspelt, or a broken connection as a traceback."""
    monkeypatch.setattr(hub, "snapshot_download", Mock(side_effect=error))
    with pytest.raises(ModelNotFoundError, match=remedy):
        download_from_hub("org/name")


def test_the_transport_error_is_not_too_wide() -> None:
    """A hub release whose errors have another base, so that every exception is caught here."""
    assert not issubclass(hub._TRANSPORT_ERROR, OSError)
    assert not issubclass(ValueError, hub._TRANSPORT_ERROR)
    assert issubclass(HfHubHTTPError, hub._TRANSPORT_ERROR)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_only_one_copy_of_the_weights_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: str
) -> None:
    """The same weights downloaded again in a second format; or none, for an older model."""
    asked: list[list[str]] = []

    def snapshot(repo_id: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        if any(Path(weights).match(pattern) for pattern in allow_patterns):
            (tmp_path / weights).touch()
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    download_from_hub("org/name")
    assert (tmp_path / weights).exists()
    assert not any("*.bin" in pattern for pattern in asked[0])
    assert len(asked) == (1 if weights == "model.safetensors" else 2)
