"""The documentation is true: its code runs, its command reference is the commands' own help."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md")

# One thread: two that wait for each other crawl when the machine has other work.
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "OMP_NUM_THREADS": "1",
}


def code_blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_python_in_the_docs_runs(page: str) -> None:
    """Guards against examples that went stale: a newcomer's first minute must not fail."""
    program = "\n".join(code_blocks(page, "python"))
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()


@pytest.mark.slow
def test_commands_in_the_readme_run() -> None:
    """Guards against options that were renamed in the code and not in the README."""
    lines = [line for block in code_blocks("README.md", "console") for line in block.splitlines()]
    assert len(lines) >= 3
    for line in lines:
        run = subprocess.run(
            line,
            shell=True,
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        assert run.returncode == 0, f"{line}\n{run.stderr[-2000:]}"


def test_links_in_the_docs_lead_somewhere() -> None:
    """Guards against pages and files that were moved."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_command_reference_is_the_commands_own_help() -> None:
    """Guards against docs/cli.md drifting from the options: `make docs` writes it."""
    run = subprocess.run(
        [sys.executable, "-m", "selfdraft.cli.reference"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_error_is_in_the_tree() -> None:
    """Guards against an error class that the drawing in errors.py does not show."""
    from selfdraft import errors

    names = [
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and v.__module__ == errors.__name__
    ]
    assert all(name in (errors.__doc__ or "") for name in names)
