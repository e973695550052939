"""What tests do on the page. Without playwright, whoever imports this is skipped."""

from collections.abc import Callable

import pytest

pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with playwright, which is not installed"
)

from playwright.sync_api import Locator, Page, expect

__all__ = ["Locator", "Open", "Page", "ask", "expect", "hold_conversation", "send", "text_of"]

Open = Callable[..., Page]


def send(page: Page, question: str) -> Locator:
    """Send a question with Enter; gives the new answer."""
    answers = page.locator("article.answer")
    before = answers.count()
    page.get_by_label("Message", exact=True).fill(question)
    page.keyboard.press("Enter")
    expect(answers).to_have_count(before + 1)
    return answers.nth(before)


def ask(page: Page, question: str) -> Locator:
    """Send a question and wait for the end of its answer."""
    answer = send(page, question)
    expect(answer).to_have_attribute("aria-busy", "false")
    return answer


def text_of(answer: Locator) -> str:
    """The answer's text, exactly."""
    return answer.locator(".text").text_content() or ""


def hold_conversation(page: Page) -> tuple[str, str]:
    """Two turns; the page must show both answers, whole. Gives their texts."""
    texts = []
    for number, question in enumerate(["Tell me a story.", "And then?"], start=1):
        answer = ask(page, question)
        expect(page.locator("article.question")).to_have_count(number)
        expect(answer.locator(".problem")).to_have_count(0)
        texts.append(text_of(answer))
    return texts[0], texts[1]
