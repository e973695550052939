"""The shape of the code base: names, sizes, docstrings, and nothing of the machine it grew on."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import ROOT, module_name, source_files

import selfdraft

MAX_LINES = 300
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".cfg", ""}


def test_public_names_are_few_and_sorted() -> None:
    """Guards against a public API that grows by accident."""
    assert sorted(selfdraft.__all__) == selfdraft.__all__
    assert len(selfdraft.__all__) < 15


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_file_is_short_and_has_a_subject(path: Path) -> None:
    """Guards against files that hold several ideas."""
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"{num_lines} lines"


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and methods without a docstring, and the module itself."""
    if not ast.get_docstring(tree):
        yield "the module"
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    while scopes:
        for node in scopes.pop().body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield node.name
            if isinstance(node, ast.ClassDef):
                scopes.append(node)


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_everything_public_is_documented(path: Path) -> None:
    """Guards against a public name that leaves its reader guessing."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(undocumented(tree)) == []


def test_undocumented_finds_what_lacks_a_docstring() -> None:
    """Guards against the rule above passing everything."""
    source = (
        '"""Doc."""\ndef one(): ...\ndef _two(): ...\n'
        'class C:\n    """Doc."""\n    def m(self): ...'
    )
    assert sorted(undocumented(ast.parse(source))) == ["m", "one"]


def project_texts() -> list[Path]:
    """The text files that the project is made of."""
    folders = [ROOT / name for name in ("src", "tests", "docs", ".ci")]
    inside = [path for folder in folders for path in folder.rglob("*")]
    outside = [path for path in ROOT.iterdir() if path.suffix in TEXT_SUFFIXES - {""}]
    files = [*inside, *outside, ROOT / "Makefile"]
    return [
        path
        for path in files
        if (
            path.is_file()
            and path.suffix in TEXT_SUFFIXES
            and not any(part.startswith("__") or part.endswith(".egg-info") for part in path.parts)
        )
        or path.name in {"__init__.py", "__main__.py"}
    ]


# Written in pieces, so that this file does not name them.
_FOLDERS = ["/wor" + "k/", "/tm" + "p/w", "/roo" + "t/", "/hom" + "e/"]
_HOSTS = ["py" + "pi.org", "python" + "hosted.org", "download." + "pytorch", "cond" + "a.org"]
_PRIVATE = re.compile("|".join(map(re.escape, _FOLDERS + _HOSTS)))


def test_nothing_names_this_machine_or_a_registry() -> None:
    """Guards against paths and hosts that exist only where the project was written."""
    paths = project_texts()
    assert len(paths) > 50
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in paths
        for match in _PRIVATE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_test_says_which_bug_it_guards() -> None:
    """Guards against tests whose purpose is lost when they break."""
    silent = [
        f"{path.name}: {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_what_is_referred_to_is_here() -> None:
    """Guards against words that point to a document or an issue that no reader of this has."""
    for path in [*source_files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"\bDESIGN\b|\bFAULTS\b|[( ]issue [0-9]+", text)
        assert not found or path.name == "test_structure.py", f"{path}: {found}"
