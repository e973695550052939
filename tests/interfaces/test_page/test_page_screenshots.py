"""Pictures of the page, to be looked at: written to the folder that SELFDRAFT_SCREENSHOTS names."""

import os
from pathlib import Path

import pytest
from fake_back_end import GATE, FakeBackEnd, Refusal, Step, draft_state
from page_actions import Open, Page, ask, expect, send

FOLDER = os.environ.get("SELFDRAFT_SCREENSHOTS")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="SELFDRAFT_SCREENSHOTS names no folder"),
]

WIDE = {"width": 1280, "height": 860}
NARROW = {"width": 360, "height": 740}
STORY = (
    "The robot looked at the empty wall. It had painted fences, doors and numbers on crates, but "
    "never anything that nobody had asked for. It dipped the brush into the blue.\n\n"
    "The robot looked at the wall again. It was not empty any more.\n"
)
PATTERN = ("target", "model", "model", "model", "target", "text", "text", "model", "target",
           "recycled", "earlier", "model")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "scheme", "viewport"),
    [
        ("light", "light", WIDE),
        ("dark", "dark", WIDE),
        ("narrow", "light", NARROW),
        ("narrow-dark", "dark", NARROW),
    ],
)
def test_screenshots(
    open_page: Open, back_end: FakeBackEnd, name: str, scheme: str, viewport: dict[str, int]
) -> None:
    """Guards against a page that passes its tests and that nobody has ever looked at."""
    back_end.answer = long_story
    back_end.draft = draft_state([1, 4, 5, 8, 15, 22], [2, 4, 9, 21, 27], num_layers=30)
    page = open_page(back_end.url, color_scheme=scheme, viewport=viewport)
    expect(page.locator("#server-state")).to_have_text("ready")
    shoot(page, f"{name}-1-empty")
    send(page, "Write a short story about a robot who learns to paint.")
    expect(page.locator("article.answer .token")).to_have_count(20)
    back_end.draft = draft_state([1, 4, 6, 8, 15, 22], [2, 4, 9, 21, 27], num_layers=30)
    expect(page.locator("#layer-map [title='layer 6, attention: skipped']")).to_be_attached()
    shoot(page, f"{name}-2-writing")
    back_end.gate.set()
    expect(page.locator("article.answer")).to_have_attribute("aria-busy", "false")
    shoot(page, f"{name}-3-answer")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict.same")).to_be_visible()
    shoot(page, f"{name}-4-compare")
    if viewport == NARROW:
        page.get_by_role("button", name="Details").click()
        shoot(page, f"{name}-5-details")
        page.locator("#settings").scroll_into_view_if_needed()
        shoot(page, f"{name}-6-settings")
    back_end.refusals.append(Refusal(429, "the queue is full", headers={"Retry-After": "3"}))
    ask(page, "And then?")
    shoot(page, f"{name}-7-problem")
    back_end.key = "secret"
    page.reload()
    expect(page.get_by_role("dialog")).to_be_visible()
    shoot(page, f"{name}-8-key")
    back_end.key = None
    back_end.draft = draft_state(range(1, 60, 3), range(2, 76, 5), num_layers=80)
    page.reload()
    expect(page.locator("#layer-map .cell")).to_have_count(160)
    if viewport == NARROW:
        page.get_by_role("button", name="Details").click()
        page.locator("#layer-map").scroll_into_view_if_needed()
    shoot(page, f"{name}-9-80-layers")


def long_story(body: dict[str, object]) -> list[Step]:
    """Words by every source, with a pause after the twentieth."""
    steps: list[Step] = []
    for number, word in enumerate(STORY.split(" ")):
        source = "target" if body["draft"] == "off" else PATTERN[number % len(PATTERN)]
        steps.append((word if number == 0 else f" {word}", [source]))
    steps.insert(20, GATE)
    return steps


def shoot(page: Page, name: str) -> None:
    """Take the picture when everything has been drawn."""
    assert FOLDER is not None
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)))")
    page.screenshot(path=Path(FOLDER) / f"{name}.png")
