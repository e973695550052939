"""What a client catches when the server refuses: the error classes of the `openai` client."""

from collections.abc import Iterator
from threading import Thread
from typing import Any

import httpx2
import openai
import pytest
from running_server import KEY, MODEL, RunningServer, client_of, running, wait_until

pytestmark = pytest.mark.slow

MESSAGES = [{"role": "user", "content": "Name three rivers and say where they flow."}]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """One request runs, one waits, and the next is refused."""
    limits = ("--max-running", "1", "--max-queue", "1")
    with running("--api-key", KEY, "--draft", "off", *limits) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


def test_errors_are_the_classes_that_clients_catch(
    client: openai.OpenAI, server: RunningServer
) -> None:
    """Guards against errors that a client takes for another kind, or cannot read."""
    asked: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 1}
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="another", **asked)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, temperature=-1, **asked)
    assert wrong.value.param == "temperature"
    assert wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model=MODEL, extra_body={"best_off": 2}, **asked)
    assert unknown.value.param == "best_off"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(
            model=MODEL,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            **asked,
        )
    assert unsupported.value.param == "tools"
    with client_of(server, key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model=MODEL, **asked)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_a_full_queue_is_a_rate_limit(client: openai.OpenAI, server: RunningServer) -> None:
    """Guards 429 in the client's words, and that the two that were taken are served."""
    long = {"messages": MESSAGES, "max_tokens": 400, "temperature": 1, "seed": 4, "stream": True}
    first = client.chat.completions.create(model=MODEL, **long)
    assert next(first).choices
    others: list[Any] = []
    waiting = Thread(
        target=lambda: others.append(client.chat.completions.create(model=MODEL, **long))
    )
    waiting.start()
    wait_until(lambda: num_waiting(server) == 1, server)
    with pytest.raises(openai.RateLimitError) as full:
        client.chat.completions.create(model=MODEL, **long)
    assert int(full.value.response.headers["retry-after"]) >= 1
    first.close()
    waiting.join()
    assert next(others[0]).choices
    others[0].close()
    wait_until(lambda: num_waiting(server) == 0, server)


def num_waiting(server: RunningServer) -> int:
    answer = httpx2.get(
        f"{server.url}/v1/draft", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    )
    return int(answer.json()["num_waiting"])
