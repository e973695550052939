"""A browser, the fake server, and the page as its user meets it."""

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from fake_back_end import FakeBackEnd, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

# What the browser itself logs when a server refuses: errors that tests ask for.
REFUSED = "Failed to load resource"

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's chromium, headless.

    Not for the whole session: Playwright keeps an event loop running in this thread, and other
    modules have their own.
    """
    from playwright import sync_api as api

    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("the page is tested in chromium, which is not installed")
    api.expect.set_options(timeout=20_000)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def back_end() -> Iterator[FakeBackEnd]:
    """The fake server, running."""
    back_end = FakeBackEnd()
    with serving(back_end):
        yield back_end


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    """Open a page in a context of its own; at the end, nothing may have been logged as an error."""
    contexts = []
    errors: list[str] = []

    def open_at(url: str, **options: object) -> "Page":
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.extend(_error_of(message)))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Open, back_end: FakeBackEnd) -> "Page":
    """The page of the fake server on a wide screen, ready."""
    from playwright.sync_api import expect

    page = open_page(back_end.url)
    expect(page.locator("#server-state")).to_have_text("ready")
    return page


def _error_of(message: "ConsoleMessage") -> list[str]:
    if message.type not in {"error", "warning"} or message.text.startswith(REFUSED):
        return []
    return [message.text]
