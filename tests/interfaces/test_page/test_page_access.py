"""The page for everyone: by keyboard alone, on a phone's width, in the dark."""

from collections.abc import Iterator

import pytest
from fake_back_end import UNTIL_GONE, FakeBackEnd, story
from page_actions import Open, Page, ask, expect, send

pytestmark = pytest.mark.slow

FOCUSED = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const hasRing = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return [element.id || element.className || element.tagName, hasRing];
}"""

AT_END = """() => {
  const log = document.getElementById("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
}"""

WITHOUT_NAME = """() => [...document.querySelectorAll("button, input, textarea")]
  .filter((e) => !e.labels?.length && !e.getAttribute("aria-label") && !e.textContent.trim())
  .map((e) => e.outerHTML)"""

TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("noscript, .for-readers")) continue;
    if (element.closest(":disabled")) continue; // WCAG makes no demand on what cannot be used
    let ground = element;
    while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
      ground = ground.parentElement;
    found.push([text, getComputedStyle(element).color,
      ground ? getComputedStyle(ground).backgroundColor : "rgb(255, 255, 255)"]);
  }
  return found;
}"""


def test_by_keyboard_alone(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against something that only a mouse can reach, and a focus that is lost or unseen."""
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(page.locator("article.answer")).to_have_attribute("aria-busy", "false")
    assert back_end.bodies[0]["messages"][0]["content"] == "first line\nsecond line"
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("switch")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("switch")).not_to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".verdict.same")).to_be_visible()
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    back_end.answer = lambda body: [("Once", ["target"]), UNTIL_GONE]
    page.keyboard.type("again")
    page.keyboard.press("Enter")
    expect(page.locator("article.answer .text").last).to_have_text("Once")
    page.keyboard.press("Escape")
    expect(page.locator("article.answer").last).to_have_attribute("aria-busy", "false")


def test_focus_reaches_everything_and_shows(page: Page) -> None:
    """Guards against controls out of reach of the Tab key, or reached without a sign."""
    ask(page, "Hello")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict.same")).to_be_visible()
    reached = dict(_tab_through(page))
    wanted = {
        "new", "log", "copy quiet", "text", "question", "speculation", "compare", "send",
        "panel", "system", "temperature", "max-tokens", "seed", "hide-colours",
    }  # fmt: skip
    assert wanted <= reached.keys()
    assert [name for name, has_ring in reached.items() if name in wanted and not has_ring] == []
    assert page.evaluate(WITHOUT_NAME) == []


@pytest.mark.parametrize("height", [640, 320])
def test_narrow(open_page: Open, back_end: FakeBackEnd, height: int) -> None:
    """Guards against a page wider than a phone, and a composer pushed out of its reach."""
    page = open_page(back_end.url, viewport={"width": 360, "height": height})
    back_end.answer = lambda body: [*story(body), ("x" * 200, ["model"])]
    ask(page, "y" * 200)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict.same")).to_be_visible()
    toggle = page.get_by_role("button", name="Details")
    expect(page.locator("#layer-map")).to_be_hidden()
    assert _overflow(page) <= 0
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "true")
    expect(page.locator("#panel")).to_be_in_viewport(ratio=0.9)
    assert page.locator("#panel").evaluate("e => e.clientHeight") > 150
    page.wait_for_function(AT_END)  # the panel has made the conversation's box smaller
    page.locator("#layer-map").scroll_into_view_if_needed()
    expect(page.locator("#layer-map")).to_be_in_viewport()
    assert _overflow(page) <= 0
    assert page.locator("#log").evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    assert page.locator("#panel").evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    page.get_by_role("button", name="Send").scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)


def test_settings_that_are_wrong_open_the_panel(open_page: Open, back_end: FakeBackEnd) -> None:
    """Guards against Enter that does nothing, since what is wrong is not on the screen."""
    page = open_page(back_end.url, viewport={"width": 360, "height": 640})
    page.get_by_role("button", name="Details").click()
    page.get_by_label("Temperature").fill("9")
    page.get_by_role("button", name="Details").click()
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Temperature")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page: Open, back_end: FakeBackEnd, scheme: str) -> None:
    """Guards against text that is hard to read in one of the two schemes (WCAG AA: 4.5 to 1)."""
    page = open_page(back_end.url, color_scheme=scheme)
    ask(page, "Hello")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict.same")).to_be_visible()
    back_end.answer = lambda body: [("Once", ["target"]), "send an error event, then end"]
    ask(page, "Again")
    texts = page.evaluate(TEXTS)
    assert len(texts) > 60
    weak = [
        (text, color, ground, round(ratio, 2))
        for text, color, ground in texts
        if (ratio := _contrast(color, ground)) < 4.5
    ]
    assert weak == []
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (_luminance(ground) < 0.1) == (scheme == "dark")


def test_focus_after_a_button_is_gone(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a keyboard that must start from the top when Stop goes out of use."""
    back_end.answer = lambda body: [("Once", ["target"]), UNTIL_GONE]
    send(page, "Hello")
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()


def _tab_through(page: Page) -> Iterator[tuple[str, bool]]:
    """(id or class, whether it shows focus) of all that Tab reaches, once around."""
    page.evaluate("() => document.activeElement.blur()")
    for _ in range(60):
        page.keyboard.press("Tab")
        name, has_ring = page.evaluate(FOCUSED)
        yield name, has_ring


def _overflow(page: Page) -> int:
    """Pixels by which the document is wider than the screen."""
    wide: int = page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wide


def _contrast(one: str, other: str) -> float:
    light, dark = sorted([_luminance(one), _luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    """Relative luminance of a CSS `rgb(r, g, b)`, as WCAG 2 has it."""
    channels = [float(part) / 255 for part in color.strip("rgba()").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
