"""The files of the page, without a browser."""

import re

from fake_back_end import PAGE

HTML = (PAGE / "index.html").read_text(encoding="utf-8")
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in PAGE.glob("*.js")}


def test_the_policy_forbids_nothing_the_page_needs() -> None:
    """Guards against inline scripts and styles, which the server's policy would silently drop."""
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", HTML) == []
    assert [link for link in re.findall(r'(?:src|href)="([^"]+)"', HTML) if "//" in link[:8]] == []


def test_text_is_never_set_as_markup() -> None:
    """Guards against an answer of the model that becomes a part of the page."""
    assert len(SCRIPTS) > 5
    for name, script in SCRIPTS.items():
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script
        )
        assert found == [], name


def test_modules_and_elements_exist() -> None:
    """Guards against a renamed file or id that fails only when its code is reached."""
    ids = set(re.findall(r'\sid="([^"]+)"', HTML))
    for name, script in SCRIPTS.items():
        assert set(re.findall(r'byId\("([^"]+)"\)', script)) <= ids, name
        assert {path[2:] for path in re.findall(r'from "([^"]+)"', script)} <= SCRIPTS.keys(), name
    assert set(re.findall(r'(?:for|aria-labelledby|aria-controls)="([^"]+)"', HTML)) <= ids


def test_files_are_short() -> None:
    """Guards against files that hold several ideas."""
    for path in PAGE.iterdir():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path.name
