"""Versions that nobody has tested with are told of, and no others."""

import warnings

import pytest
from tiny_models import tiny_model

from selfdraft import Engine, tested_versions
from selfdraft.errors import SelfdraftWarning
from selfdraft.tested_versions import NEWEST_TESTED, warn_of_untested_versions


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> None:
    warn_of_untested_versions.cache_clear()


@pytest.mark.parametrize("found", ["9.0.0", "5.25.0", "5.100.0rc1", "6.0.0.dev0"])
def test_a_newer_version(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against odd output whose user learns nothing of the versions, or is told each time."""
    versions = {"torch": "2.13.0+cpu", "transformers": found}
    monkeypatch.setattr(tested_versions, "version", versions.__getitem__)
    with pytest.warns(SelfdraftWarning, match=rf"transformers {found} is newer .*\(5\.24\)"):
        Engine(tiny_model())
    Engine(tiny_model())


@pytest.mark.parametrize("found", ["5.20.0", "5.24.0", "5.24.7", "5.23.0.dev0"])
def test_a_tested_version(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a warning that everybody learns to overlook."""
    versions = {"torch": f"{NEWEST_TESTED['torch']}.1+cu130", "transformers": found}
    monkeypatch.setattr(tested_versions, "version", versions.__getitem__)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_untested_versions()


def test_what_is_installed_is_tested() -> None:
    """Guards against a table that is older than what the tests run on."""
    warn_of_untested_versions()
