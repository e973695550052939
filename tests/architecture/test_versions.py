"""What pyproject.toml admits is what CI has tried."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
BY_HAND = {"torch"}
"""Its oldest version is several GB, so it was tried by hand (docs/quickstart.md) and not in CI."""


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["serve"], *extras["bench"]]
    return [Requirement(line) for line in lines]


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_floor_is_tried() -> None:
    """Guards against a version that is claimed and that nobody ever installed."""
    floors = {
        requirement.name: next(s.version for s in requirement.specifier if s.operator == ">=")
        for requirement in requirements()
        if requirement.name not in BY_HAND
    }
    tried = pinned("constraints-oldest.txt")
    assert floors.keys() == tried.keys()
    for name, floor in floors.items():
        assert re.fullmatch(rf"{re.escape(floor)}(\.0)*", tried[name]), name


def test_no_version_is_shut_out() -> None:
    """Guards against upper bounds where nothing is known to break."""
    for requirement in requirements():
        assert [s.operator for s in requirement.specifier] == [">="], requirement
