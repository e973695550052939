"""The page against the real server: mostly with a tiny model, one conversation with a real one."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from page_actions import Open, Page, ask, expect, hold_conversation, text_of
from tiny_models import text_engine

from selfdraft import Engine

pytest.importorskip("fastapi", reason="the server needs selfdraft[serve]")

from server_runs import serving

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m"
FOLDER = os.environ.get("SELFDRAFT_SCREENSHOTS")

OpenServer = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def page_of(open_page: Open) -> OpenServer:
    """The page of a server with an engine, with a limit that keeps the answers short."""

    @contextmanager
    def page_of(engine: Engine, name: str = "tiny") -> Iterator[Page]:
        with serving(lambda: engine, served_model_name=name, draft="auto") as server:
            page = open_page(str(server.client.base_url))
            expect(page.locator("#server-state")).to_have_text("ready")
            page.get_by_label("Max tokens").fill("48")
            page.get_by_label("Seed").fill("5")
            yield page
            page.close()

    return page_of


def test_a_conversation_with_the_real_model(page_of: OpenServer) -> None:
    """Guards against a page and a server that each keep to another contract: what the page shows
    is what the engine writes.
    """
    engine = Engine.load(MODEL)
    with page_of(engine, MODEL) as page:
        first, second = hold_conversation(page)
        expect(page.locator("#rate-kind")).to_have_text("by the server, decoding only")
        assert "target" in page.locator(".legend").last.inner_text()
        expect(page.locator("#requests")).to_have_text("0 running, 0 waiting")
        shoot(page, "real-1-conversation")
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".verdict.same")).to_be_visible()
        shoot(page, "real-2-compare")
        shoot(page, "real-3-narrow", {"width": 360, "height": 740})
    messages = [{"role": "user", "content": "Tell me a story."}]
    assert first == engine.generate(messages, max_new_tokens=48, seed=5).text
    messages += [
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And then?"},
    ]
    assert second == engine.generate(messages, max_new_tokens=48, seed=5).text


def test_the_switch_changes_only_the_speed(page_of: OpenServer) -> None:
    """Guards against a draft that changes the text, seen where its user would see it."""
    with page_of(text_engine()) as page:
        on = text_of(ask(page, "Count from one to twenty."))
        page.get_by_role("button", name="New conversation").click()
        page.get_by_role("switch", name="Speculation").uncheck()
        assert text_of(ask(page, "Count from one to twenty.")) == on
        expect(page.locator("#vanilla")).to_contain_text("measured")
        assert page.locator(".text .token:not(.from-target)").count() == 0
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".verdict.same")).to_be_visible()


def test_the_map_is_of_the_real_model(page_of: OpenServer) -> None:
    """Guards against a map whose numbers of layers and fixed cells are not the model's."""
    engine = text_engine()
    with page_of(engine) as page:
        num_layers = engine.target.layers.num_layers
        expect(page.locator("#layer-map .cell")).to_have_count(2 * num_layers)
        expect(page.locator("#layer-map .cell.fixed")).not_to_have_count(0)


def test_what_the_server_refuses_is_told(page_of: OpenServer) -> None:
    """Guards against an error of the real server in a shape that the page does not read."""
    with page_of(text_engine()) as page:
        page.get_by_label("Max tokens").fill("100000")
        problem = ask(page, "Hello").locator(".problem")
        expect(problem).to_contain_text("The server refused the request.")
        expect(problem).to_contain_text("Change the number of max tokens")


def shoot(page: Page, name: str, viewport: dict[str, int] | None = None) -> None:
    """A picture, if a folder is named for them."""
    if FOLDER is not None:
        page.set_viewport_size(viewport or {"width": 1280, "height": 860})
        page.locator("#panel").evaluate("panel => { panel.scrollTop = 0; }")
        page.screenshot(path=Path(FOLDER) / f"{name}.png")
