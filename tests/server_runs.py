"""Servers for tests: on a real socket of this machine, with engines that wait to be told to go."""

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Semaphore, Thread
from typing import Any

import httpx2
from tiny_models import text_engine

from selfdraft import Engine, Generation, Piece
from selfdraft.server.app import create_app
from selfdraft.server.backend import Backend
from selfdraft.server.running import DrainingServer, listen
from selfdraft.server.settings import ServerSettings

MODEL = "tiny"
SECONDS = 30.0
"""Nothing in a test takes so long; a test that would hang fails after it."""


def settings(**overrides: Any) -> ServerSettings:
    return ServerSettings(**{"served_model_name": MODEL, "draft": "recycling", **overrides})


@dataclass(frozen=True)
class RunningServer:
    """A server, a client of it, and what is behind it."""

    server: DrainingServer
    client: httpx2.Client
    backend: Backend
    loop_thread: Thread

    def ask(self, **fields: Any) -> httpx2.Response:
        """A greedy chat completion, unless `fields` say otherwise."""
        return self.client.post("/v1/chat/completions", json=chat_body(**fields))

    def complete(self, **fields: Any) -> httpx2.Response:
        body = {"model": MODEL, "prompt": "the", "temperature": 0, **fields}
        return self.client.post("/v1/completions", json=body)


def chat_body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "the thé"}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 8, **fields}


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    """The documents of a stream, whose last line must say that it is over."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@contextmanager
def serving(
    load_engine: Callable[[], Engine] = text_engine,
    *,
    is_awaited: bool = True,
    **overrides: Any,
) -> Iterator[RunningServer]:
    """A server on a free port, which has loaded its engine unless `is_awaited` is false."""
    app = create_app(settings(**overrides), load_engine=load_engine)
    is_ready = threading.Event()
    server = DrainingServer(app, on_ready=is_ready.set)
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = Thread(target=server.serve_on, args=(listener,))
    thread.start()
    try:
        if is_awaited:
            assert is_ready.wait(SECONDS)
        with httpx2.Client(base_url=url, timeout=SECONDS) as client:
            yield RunningServer(server, client, app.state.backend, thread)
    finally:
        app.state.backend.service.abort()
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert app.state.backend.service.join(SECONDS)


class Gate:
    """Lets the rounds of an engine happen one by one."""

    def __init__(self) -> None:
        self._permits = Semaphore(0)
        self._begun = Semaphore(0)
        self._is_open = False
        self.num_rounds = 0
        self.num_closed = 0

    def wait(self) -> None:
        """Called before a round."""
        self._begun.release()
        for _ in range(int(2 * SECONDS / 0.01)):  # a test that has failed opens no gate
            if self._is_open or self._permits.acquire(timeout=0.01):
                break
        self.num_rounds += 1

    def let(self, num_rounds: int) -> None:
        """Allow so many more rounds."""
        self._permits.release(num_rounds)

    def open(self) -> None:
        """Allow all rounds."""
        self._is_open = True

    def await_round(self) -> None:
        """Return when one more round waits, or has waited, to begin."""
        assert self._begun.acquire(timeout=SECONDS)


class GatedGeneration:
    """A generation whose rounds wait for a gate."""

    def __init__(self, inner: Generation, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    def step(self) -> list[Piece]:
        self._gate.wait()
        return self._inner.step()

    def close(self) -> None:
        self._gate.num_closed += 1
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def gated_engine(gate: Gate) -> Engine:
    """The text engine behind a gate."""
    engine = copy.copy(text_engine())
    stream = engine.stream

    def gated(*args: Any, **options: Any) -> GatedGeneration:
        return GatedGeneration(stream(*args, **options), gate)

    engine.stream = gated  # type: ignore[method-assign, assignment]
    return engine


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to make `condition` true."""
    tick = threading.Event()
    for _ in range(int(SECONDS / 0.005)):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("it did not come to pass")


def in_loop(work: Callable[[], Any]) -> Any:
    """The result of a coroutine function, in a loop of its own."""
    return asyncio.run(asyncio.wait_for(work(), SECONDS))
