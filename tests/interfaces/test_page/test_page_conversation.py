"""Talking with the model through the page."""

import pytest
from fake_back_end import GATE, UNTIL_GONE, FakeBackEnd
from page_actions import Page, ask, expect, hold_conversation, send, text_of

pytestmark = pytest.mark.slow

STORY = "Once upon a time\nonce more and again."
ROOM_BELOW = """async (log) => {
  await new Promise(requestAnimationFrame);
  return log.scrollHeight - log.scrollTop - log.clientHeight;
}"""
SOURCES = ("target", "model", "text", "earlier", "recycled")


def test_a_conversation_of_two_turns(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a second request without the first turn, or with fields the API refuses."""
    page.get_by_label("System message").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Max tokens").fill("64")
    page.get_by_label("Seed").fill("11")
    assert hold_conversation(page) == (STORY, STORY)
    first, second = back_end.bodies
    assert first == {
        "model": "tiny-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Tell me a story."},
        ],
        "temperature": 0.7,
        "max_tokens": 64,
        "seed": 11,
        "draft": "auto",
        "stream": True,
        "stream_options": {"include_usage": True, "include_sources": True},
    }
    assert second["messages"] == [
        *first["messages"],
        {"role": "assistant", "content": STORY},
        {"role": "user", "content": "And then?"},
    ]


def test_every_token_shows_who_named_it(page: Page) -> None:
    """Guards against sources told apart by colour alone, or not at all."""
    answer = ask(page, "Hello")
    pieces = answer.locator(".text .token").evaluate_all(
        "spans => spans.map(s => [s.textContent, s.className, s.title])"
    )
    assert pieces[:2] == [
        ["Once", "token from-target", "target"],
        [" upon", "token from-model", "self-draft"],
    ]
    looks = [
        answer.locator(f".text .from-{source}").first.evaluate(
            "s => [getComputedStyle(s).backgroundColor, getComputedStyle(s).textDecorationLine +"
            " getComputedStyle(s).textDecorationStyle]"
        )
        for source in SOURCES
    ]
    grounds, lines = zip(*looks, strict=True)
    assert len(set(grounds)) == len(SOURCES)
    assert len(set(lines)) == len(SOURCES)


def test_the_legend_counts_every_token(page: Page) -> None:
    """Guards against counts of pieces instead of tokens: the end token has no text."""
    legend = ask(page, "Hello").locator(".legend li")
    assert legend.all_inner_texts() == [
        "target 4 (44 %)",
        "self-draft 2 (22 %)",
        "copied from this text 1 (11 %)",
        "copied from an earlier text 1 (11 %)",
        "recycled 1 (11 %)",
    ]


def test_a_piece_of_several_tokens_names_them_all(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a character of several tokens that hides who named the first."""
    back_end.answer = lambda body: [("\u8a9e", ["model", "target"]), ("!", []), ("", ["text"])]
    pieces = ask(page, "Hello").locator(".text .token")
    expect(pieces.nth(0)).to_have_class("token from-target")
    expect(pieces.nth(0)).to_have_attribute("title", "2 tokens: self-draft, target")
    expect(pieces.nth(1)).to_have_class("token from-target")


def test_colours_can_be_hidden(page: Page) -> None:
    """Guards against a checkbox that leaves some of the marks."""
    token = ask(page, "Hello").locator(".text .from-model").first
    page.get_by_label("Hide the colours of tokens").check()
    expect(token).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    expect(token).to_have_css("text-decoration-line", "none")


def test_text_of_the_model_is_never_markup(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against an answer that runs as a part of the page."""
    wicked = "<img src=x onerror=alert(1)><b>&amp;</b>"
    back_end.answer = lambda body: [(wicked, ["target"])]
    answer = ask(page, wicked)
    assert text_of(answer) == wicked
    assert page.locator("#turns img, #turns b").count() == 0


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stop_keeps_the_beginning(page: Page, back_end: FakeBackEnd, way: str) -> None:
    """Guards against a stopped answer that is lost, or goes on being written by the server."""
    back_end.answer = lambda body: [("Once", ["target"]), (" upon", ["model"]), UNTIL_GONE]
    answer = send(page, "Hello")
    expect(answer.locator(".text")).to_have_text("Once upon")
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(answer).to_have_attribute("aria-busy", "false")
    expect(answer.locator(".notice")).to_have_text("Stopped.")
    assert text_of(answer) == "Once upon"
    assert back_end.has_client_gone.wait(20)
    expect(page.get_by_role("button", name="Compare")).to_be_disabled()
    back_end.answer = lambda body: [("Yes.", ["target"])]
    ask(page, "Go on")
    assert {"role": "assistant", "content": "Once upon"} in back_end.bodies[-1]["messages"]


def test_a_new_conversation_forgets(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against turns of the old conversation in the new one's requests."""
    back_end.answer = lambda body: [("Once", ["target"]), UNTIL_GONE]
    send(page, "Old")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    back_end.answer = lambda body: [("Fresh.", ["target"])]
    ask(page, "New")
    assert [m["content"] for m in back_end.bodies[-1]["messages"]] == ["New"]
    expect(page.locator(".turn")).to_have_count(1)


def test_an_answer_can_be_copied(page: Page) -> None:
    """Guards against a copy that has lost line breaks."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer = ask(page, "Hello")
    answer.get_by_role("button", name="Copy").click()
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == STORY


def test_a_long_answer_only_grows(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against rendering everything again with each token, and a scroll that is taken away
    from a reader who has gone up.
    """
    lines = [(f"line {number}\n", ["target"]) for number in range(600)]
    back_end.answer = lambda body: [*lines, GATE, *lines]
    answer = send(page, "Hello")
    text = answer.locator(".text")
    expect(text.locator(".token")).to_have_count(600)
    log = page.locator("#log")
    assert log.evaluate(ROOM_BELOW) < 40
    text.locator(".token").first.evaluate("span => { span.mark = true; }")
    log.evaluate("async log => { log.scrollTop = 100; await new Promise(requestAnimationFrame); }")
    back_end.gate.set()
    expect(answer).to_have_attribute("aria-busy", "false")
    assert text.locator(".token").first.evaluate("span => span.mark")
    assert log.evaluate("log => log.scrollTop") == 100
    assert text_of(answer) == "".join(line for line, _ in lines) * 2
    assert text.locator(".block").count() > 1


def test_only_the_whole_answer_is_read_out(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a screen reader that speaks each token, or nothing."""
    back_end.answer = lambda body: [("Once", ["target"]), GATE, (" more.", ["target"])]
    answer = send(page, "Hello")
    expect(answer.locator(".text")).to_have_text("Once")
    status = page.get_by_role("status")
    assert answer.evaluate("a => a.closest('[aria-live], [role=log], [role=status]')") is None
    expect(status).to_have_text("")
    back_end.gate.set()
    expect(status).to_have_text("Answer finished. Once more.")


def test_everything_comes_from_the_server(page: Page, back_end: FakeBackEnd) -> None:
    """Guards against a font or script from elsewhere: the page must work without a network."""
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.reload()
    ask(page, "Hello")
    assert len(requested) > 5
    assert [url for url in requested if not url.startswith((back_end.url, "data:"))] == []
