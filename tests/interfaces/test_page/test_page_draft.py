"""What the page shows of the draft: the switch, the numbers, the comparison, the map of layers."""

import pytest
from fake_back_end import GATE, NUM_LAYERS, FakeBackEnd, draft_state, story
from page_actions import Open, Page, ask, expect, send

pytestmark = pytest.mark.slow

STORY = "Once upon a time\nonce more and again."

COLLECT_FLASHES = """() => {
  window.flashed = new Set();
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (target.classList.contains("changed")) window.flashed.add(target.title);
    }
  }).observe(document.getElementById("layer-map"), { attributes: true, subtree: true });
}"""

COLLECT_WAITS = """() => {
  window.waits = [];
  const wait = window.setTimeout;
  window.setTimeout = (work, milliseconds) => {
    window.waits.push(milliseconds);
    return wait(work, milliseconds);
  };
}"""


def test_the_switch_changes_request_and_rate(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a switch that only looks like one, and a rate compared with a guess after
    vanilla decoding was measured.
    """
    expect(page.locator("#vanilla")).to_have_text("12.5 tokens per second, predicted")
    ask(page, "Hello")
    expect(page.locator("#rate")).to_have_text("40.0")
    expect(page.locator("#ratio")).to_have_text("3.20 times vanilla")
    page.get_by_role("switch", name="Speculation").uncheck()
    ask(page, "Hello")
    assert [body["draft"] for body in back_end.bodies] == ["auto", "off"]
    expect(page.locator("#rate")).to_have_text("10.0")
    expect(page.locator("#vanilla")).to_have_text("10.0 tokens per second, measured")
    expect(page.locator("#acceptance")).to_have_text("nothing drafted")
    expect(page.locator("#ratio")).to_have_text("\u2013")


def test_vanilla_is_measured(page: Page) -> None:
    """Guards against a ratio over the prediction when the real figure is there."""
    page.get_by_role("switch", name="Speculation").uncheck()
    ask(page, "Hello")
    expect(page.locator("#vanilla")).to_have_text("10.0 tokens per second, measured")
    page.get_by_role("switch", name="Speculation").check()
    ask(page, "Hello")
    expect(page.locator("#ratio")).to_have_text("4.00 times vanilla")
    expect(page.locator("#live-line")).to_contain_text("4.00 times vanilla (measured)")


def test_numbers_of_an_answer(page: Page) -> None:
    """Guards against the page's own counts where the server gave its own."""
    ask(page, "Hello")
    expect(page.locator("#rate-kind")).to_have_text("by the server, decoding only")
    expect(page.locator("#mean-length")).to_have_text("2.25")
    expect(page.locator("#acceptance")).to_have_text("50 % (5 of 10 drafted)")
    expect(page.locator("#rounds")).to_have_text("4")
    expect(page.locator("#tokens")).to_have_text("9, 56 % from drafts")
    expect(page.locator("#first-token")).to_have_text("0.12 s")


def test_numbers_while_it_is_written(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against numbers that come only with the end."""
    back_end.answer = lambda body: [*story(body)[:4], GATE, *story(body)[4:]]
    send(page, "Hello")
    expect(page.locator("#rounds")).to_have_text("2")
    expect(page.locator("#mean-length")).to_have_text("2.00")
    expect(page.locator("#rate-kind")).to_have_text("live, counted by this page")
    expect(page.locator("article.answer .legend li")).to_have_count(2)
    back_end.gate.set()
    expect(page.locator("#rounds")).to_have_text("4")


def test_compare_finds_the_same_text(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a comparison of two different requests."""
    ask(page, "Hello")
    page.get_by_role("button", name="Compare").click()
    verdict = page.locator(".verdict.same")
    expect(verdict).to_contain_text(
        f"The texts are the same, character for character ({len(STORY)} characters)."
    )
    expect(verdict).to_contain_text(
        "Speculation on: 40.0 tokens per second; off: 10.0. Ratio 4.00."
    )
    on, off = back_end.bodies
    assert (on["draft"], off["draft"]) == ("auto", "off")
    assert on | {"draft": ""} == off | {"draft": ""}
    assert page.locator(".lane .text").all_text_contents() == [STORY, STORY]
    expect(page.get_by_role("status")).to_contain_text("The texts are the same")
    expect(page.locator("#vanilla")).to_have_text("10.0 tokens per second, measured")
    expect(page.locator("#live-line")).to_have_text(
        "40.0 tokens per second \u00b7 4.00 times vanilla (measured) \u00b7 M 2.25"
    )


def test_compare_says_in_red_that_texts_differ(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a broken promise that the page passes over."""
    ask(page, "Hello")
    back_end.answer = lambda body: [("Once", ["target"]), (" upin", ["target"])]
    page.get_by_role("button", name="Compare").click()
    words = page.locator(".verdict.differs p").last
    expect(words).to_contain_text("The texts differ from character 8 on.")
    red, green, blue = words.evaluate("p => getComputedStyle(p).color.match(/\\d+/g).map(Number)")
    assert red > green + 80
    assert red > blue + 80


def test_compare_with_one_that_is_a_beginning(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against "the same" for a text that ends earlier."""
    ask(page, "Hello")
    back_end.answer = lambda body: [("Once", ["target"]), (" upon", ["target"])]
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict.differs")).to_contain_text("differ from character 10 on")


def test_compare_can_be_stopped(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a verdict on half a text."""
    ask(page, "Hello")
    back_end.answer = lambda body: [*story(body)[:2], GATE]
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".lane .text").last).to_have_text("Once upon")
    page.keyboard.press("Escape")
    expect(page.locator(".verdict")).to_have_text("Stopped.The 9 characters so far are the same.")


def test_the_map_shows_the_plan(page: Page) -> None:
    """Guards against attention and MLP mixed up, and a map for eyes only."""
    cells = page.locator("#layer-map .cell")
    expect(cells).to_have_count(2 * NUM_LAYERS)
    skipped = page.locator("#layer-map .cell.skipped").evaluate_all("cs => cs.map(c => c.title)")
    assert skipped == [
        "layer 2, attention: skipped",
        "layer 5, attention: skipped",
        "layer 7, MLP: skipped",
    ]
    expect(page.locator("#layer-map .cell.fixed")).to_have_count(4)
    expect(page.locator("#plan-summary")).to_have_text("3 of 20 sublayers skipped (15 %).")
    expect(page.get_by_role("img", name="Attention skipped in layers 2, 5.")).to_be_visible()
    expect(page.locator("#search-state")).to_contain_text("searching")
    expect(page.locator("#proposals")).to_have_text("17")
    expect(page.locator("#weight-bits")).to_have_text("4 bits, a copy")


def test_the_map_follows_the_search(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a map that stands still while an answer is written."""
    page.evaluate(COLLECT_FLASHES)
    page.evaluate(COLLECT_WAITS)
    back_end.answer = lambda body: [("Once", ["target"]), GATE]
    answer = send(page, "Hello")
    expect(answer.locator(".text")).to_have_text("Once")
    back_end.draft = draft_state([2, 3], [7])
    expect(page.get_by_title("layer 3, attention: skipped")).to_be_visible()
    expect(page.get_by_title("layer 5, attention: kept")).to_be_visible()
    assert set(page.evaluate("[...window.flashed]")) == {
        "layer 3, attention: skipped",
        "layer 5, attention: kept",
    }
    page.wait_for_function("window.waits.filter((wait) => wait === 500).length > 1")
    back_end.gate.set()
    expect(answer).to_have_attribute("aria-busy", "false")


@pytest.mark.parametrize(("motion", "animation"), [("reduce", "none"), ("no-preference", "flash")])
def test_changes_flash_unless_motion_is_unwanted(
    open_page: Open, back_end: FakeBackEnd, motion: str, animation: str
) -> None:
    """Guards against movement for those who asked for none."""
    page = open_page(back_end.url, reduced_motion=motion)
    cell = page.locator("#layer-map .cell").first
    cell.evaluate("cell => cell.classList.add('changed')")
    assert cell.evaluate("cell => getComputedStyle(cell).animationName") == animation


def test_no_plan_is_no_error(open_page: Open, back_end: FakeBackEnd) -> None:
    """Guards against a page that needs a draft to exist, as before the search has found one."""
    back_end.draft |= {"plan": None, "vanilla_tokens_per_second": None}
    back_end.draft["search"]["state"] = "off"
    page = open_page(back_end.url)
    expect(page.locator("#plan-summary")).to_contain_text("The model does not draft now")
    expect(page.locator("#layer-map .cell.kept")).to_have_count(2 * NUM_LAYERS - 4)
    expect(page.locator("#vanilla")).to_have_text("not known yet")
    expect(page.locator("#search-state")).to_have_text("off")


def test_bars_are_as_long_as_their_numbers(page: Page) -> None:
    """Guards against a bar for nothing: a rule of another element gave it a width."""
    own, vanilla, track = (
        page.locator(place) for place in ("#bar-answer", "#bar-vanilla", ".track >> nth=0")
    )
    full = track.evaluate("e => e.clientWidth")
    assert own.evaluate("e => e.offsetWidth") == 0
    assert vanilla.evaluate("e => e.offsetWidth") == full
    ask(page, "Hello")
    assert own.evaluate("e => e.offsetWidth") == full
    assert vanilla.evaluate("e => e.offsetWidth") == pytest.approx(full * 12.5 / 40, abs=1)


@pytest.mark.parametrize(
    ("draft", "words"), [("suffix", "the draft is suffix"), ("off", "only when it is asked to")]
)
def test_a_draft_without_the_model(
    open_page: Open, back_end: FakeBackEnd, draft: str, words: str
) -> None:
    """Guards against a page that says why the model does not draft where nobody asked it to, and
    against a request for another draft than the server's.
    """
    back_end.draft |= {"plan": None, "draft": draft}
    page = open_page(back_end.url)
    expect(page.locator("#plan-summary")).to_contain_text(words)
    page.get_by_role("switch", name="Speculation").check()
    back_end.rates["suffix"] = 20.0
    ask(page, "Hello")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict")).to_contain_text("The texts are the same")
    wanted = "auto" if draft == "off" else draft
    assert [body["draft"] for body in back_end.bodies] == [wanted, "off"]


def test_a_server_without_a_draft_begins_switched_off(
    open_page: Open, back_end: FakeBackEnd
) -> None:
    """Guards against drafts that whoever started the server did not want."""
    back_end.draft["draft"] = "off"
    page = open_page(back_end.url)
    expect(page.get_by_role("switch", name="Speculation")).not_to_be_checked()
