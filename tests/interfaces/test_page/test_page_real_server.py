"""The page against the real server and the real model."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from page_actions import Open, Page, ask, expect, hold_conversation, text_of

from selfdraft import Engine

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m"
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def real_engine() -> Engine:
    """The embedded default model."""
    return Engine.load(MODEL)


@pytest.fixture(scope="module")
def real_url(real_engine: Engine) -> Iterator[str]:
    """The real application on a free port of loopback."""
    app_module = pytest.importorskip("selfdraft.server.app", reason="the server is not there yet")
    uvicorn = pytest.importorskip("uvicorn", reason="the server runs under uvicorn")
    from selfdraft.server.settings import ServerSettings

    app = app_module.create_app(
        ServerSettings(served_model_name=MODEL), load_engine=lambda: real_engine
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            _wait_for_start(server, thread)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def real_page(open_page: Open, real_url: str) -> Page:
    """The page of the real server, with a limit that keeps the answers short."""
    page = open_page(real_url)
    expect(page.locator("#server-state")).to_have_text("ready")
    page.get_by_label("Max tokens").fill("48")
    page.get_by_label("Seed").fill("5")
    return page


def test_a_conversation_with_the_real_model(real_page: Page, real_engine: Engine) -> None:
    """Guards against a page and a server that each keep to another contract: what the page shows
    is what the engine writes.
    """
    first, second = hold_conversation(real_page)
    messages = [{"role": "user", "content": "Tell me a story."}]
    assert first == real_engine.generate(messages, max_new_tokens=48, seed=5).text
    messages += [
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And then?"},
    ]
    assert second == real_engine.generate(messages, max_new_tokens=48, seed=5).text
    counted = real_page.locator(".legend").last.inner_text()
    assert "target" in counted
    expect(real_page.locator("#rate-kind")).to_have_text("by the server, decoding only")


def test_the_switch_changes_only_the_speed(real_page: Page) -> None:
    """Guards against a draft that changes the text, seen where its user would see it."""
    texts = [text_of(ask(real_page, "Count from one to twenty."))]
    real_page.get_by_role("button", name="New conversation").click()
    real_page.get_by_role("switch", name="Speculation").uncheck()
    texts.append(text_of(ask(real_page, "Count from one to twenty.")))
    assert texts[0] == texts[1]
    expect(real_page.locator("#vanilla")).to_contain_text("measured")
    assert real_page.locator(".text .token:not(.from-target)").count() == 0
    real_page.get_by_role("button", name="Compare").click()
    expect(real_page.locator(".verdict.same")).to_be_visible()


def test_the_map_is_of_the_real_model(real_page: Page, real_engine: Engine) -> None:
    """Guards against a map whose numbers of layers and fixed cells are not the model's."""
    cells = real_page.locator("#layer-map .cell")
    expect(cells).to_have_count(2 * real_engine.target.layers.num_layers)
    expect(real_page.locator("#layer-map .cell.fixed")).not_to_have_count(0)


def _wait_for_start(server: "object", thread: threading.Thread) -> None:
    """Return when uvicorn listens; it has no event to wait for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not getattr(server, "started", False):
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.02)
