"""What the page says and keeps when the server does not answer as hoped."""

import pytest
from fake_back_end import BREAK, FAIL, GATE, FakeBackEnd, Refusal, story
from page_actions import Open, Page, ask, expect, send, text_of

pytestmark = pytest.mark.slow

STORY = "Once upon a time\nonce more and again."


def test_a_key_is_asked_for(open_page: Open, back_end: FakeBackEnd) -> None:
    """Guards against a page that cannot be used where a key is set, or forgets it on reload."""
    back_end.key = "open sesame"
    page = open_page(back_end.url)
    dialog = page.get_by_role("dialog")
    page.get_by_label("Key", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("did not accept this key")
    page.get_by_label("Key", exact=True).fill("open sesame")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#server-state")).to_have_text("ready")
    assert text_of(ask(page, "Hello")) == STORY
    page.reload()
    expect(page.locator("#server-state")).to_have_text("ready")


def test_a_key_can_be_entered_later(open_page: Open, back_end: FakeBackEnd) -> None:
    """Guards against a dialog that comes back by itself after it was dismissed, or never."""
    back_end.key = "open sesame"
    page = open_page(back_end.url)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#server-state")).to_have_text("needs its API key")
    page.get_by_role("button", name="Enter key").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    answer = send(page, "Hello")
    page.get_by_role("button", name="Cancel").click()
    expect(answer.locator(".problem")).to_contain_text("wants its API key")
    answer.get_by_role("button", name="Try again").click()
    page.get_by_label("Key", exact=True).fill("open sesame")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("article.answer .text")).to_have_text(STORY)


def test_a_full_queue_can_be_tried_again(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a refused question that must be typed again."""
    back_end.refusals.append(Refusal(429, "the queue is full", headers={"Retry-After": "3"}))
    answer = ask(page, "Hello")
    expect(answer.locator(".problem")).to_contain_text("queue is full. Try again in 3 s.")
    answer.get_by_role("button", name="Try again").click()
    expect(page.locator("article.answer .text")).to_have_text(STORY)
    expect(page.locator("article.answer .problem")).to_have_count(0)
    assert len(back_end.bodies) == 1


def test_a_problem_is_scrolled_to(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against an answer below the edge: a box that grew before it had heard of its own
    scrolling took itself for one whose reader had gone up.
    """
    back_end.answer = lambda body: [(f"line {number}\n", ["target"]) for number in range(60)]
    ask(page, "Hello")
    back_end.refusals.append(Refusal(429, "the queue is full"))
    answer = ask(page, "Hello")
    expect(answer.get_by_role("button", name="Try again")).to_be_in_viewport(ratio=1)
    expect(page.locator("#live-line")).to_have_text("Nothing was written.")


def test_a_loading_server_is_waited_for(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against an error where some seconds of patience are enough."""
    loading = Refusal(503, "the model is loading", headers={"Retry-After": "0.2"})
    back_end.refusals.extend([loading, loading])
    assert text_of(ask(page, "Hello")) == STORY
    assert not back_end.refusals


def test_waiting_can_be_stopped(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a wait for the server that nothing ends."""
    back_end.refusals.append(Refusal(503, "the model is loading", headers={"Retry-After": "15"}))
    answer = send(page, "Hello")
    expect(answer.locator(".notice")).to_contain_text("The model is loading. Trying again in 15 s")
    page.keyboard.press("Escape")
    expect(answer.locator(".notice")).to_have_text("Stopped.")


def test_a_refused_field_is_named(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against "400" where the server has said what to change."""
    back_end.refusals.append(Refusal(400, "temperature is 9: at most 2", "temperature"))
    problem = ask(page, "Hello").locator(".problem")
    expect(problem).to_contain_text("Temperature is 9: at most 2. Change the temperature")


def test_wrong_settings_are_not_sent(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a request that the server must refuse, and a question lost with it."""
    page.get_by_label("Max tokens").fill("0")
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Max tokens")).to_be_focused()
    expect(page.get_by_label("Message", exact=True)).to_have_value("Hello")
    assert back_end.bodies == []


@pytest.mark.parametrize(
    ("end", "words"),
    [(BREAK, "The connection was lost."), (FAIL, "The model ran out of memory.")],
)
def test_a_broken_answer_keeps_its_beginning(
    page: Page, back_end: FakeBackEnd, end: str, words: str
) -> None:
    """Guards against text that was read already and vanishes, or passes for a whole answer."""
    back_end.answer = lambda body: [*story(body)[:3], GATE, end]
    answer = send(page, "Hello")
    expect(answer.locator(".text")).to_have_text("Once upon a")
    back_end.gate.set()
    expect(answer.locator(".problem")).to_contain_text(words)
    assert text_of(answer) == "Once upon a"
    expect(page.get_by_role("button", name="Compare")).to_be_disabled()
    back_end.answer = story
    answer.get_by_role("button", name="Try again").click()
    expect(page.locator("article.answer .text")).to_have_text(STORY)


def test_a_server_that_is_gone(page: Page) -> None:
    """Guards against silence when the network or the server is lost."""
    page.context.set_offline(True)
    problem = ask(page, "Hello").locator(".problem")
    expect(problem).to_contain_text("The server cannot be reached. Check that the server")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("article.answer .text")).to_have_text(STORY)
