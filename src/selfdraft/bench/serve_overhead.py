"""What the server costs beyond the engine, for one stream.

The same requests go to one engine twice in turn: by a call in the thread that owns it, and over
HTTP on this machine to the server that this thread belongs to. All seconds count, tokenizing and
prefill too; the client is in this process and only reads while time runs, so whatever it takes from
the model counts against the server.
"""

import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import Any

from selfdraft.bench.tasks.task import BenchPrompt
from selfdraft.drafts import DraftName
from selfdraft.engine import Engine
from selfdraft.errors import PeerError
from selfdraft.server.app import create_app
from selfdraft.server.running import DrainingServer, listen
from selfdraft.server.service import Service
from selfdraft.server.settings import ServerSettings
from selfdraft.text.prompt import Prompt

_HOST = "127.0.0.1"
MODEL = "measured"
"""What the measured server calls its model."""

_DATA = b"data: "


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request, in the words of the engine and of the server."""

    prompt: BenchPrompt
    is_chat: bool
    max_new_tokens: int
    temperature: float
    seed: int

    @property
    def engine_prompt(self) -> Prompt:
        """What `Engine.stream` gets."""
        return self._messages if self.is_chat else self.prompt.text

    @property
    def path(self) -> str:
        """Where the server takes it."""
        return "/v1/chat/completions" if self.is_chat else "/v1/completions"

    @property
    def body(self) -> dict[str, Any]:
        """What the server gets."""
        asked = {"messages": self._messages} if self.is_chat else {"prompt": self.prompt.text}
        return asked | {
            "model": MODEL,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @property
    def _messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.prompt.text}]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one way of asking gave, and how long it took."""

    text: str
    num_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ServedPair:
    """One request through the engine and through the server."""

    task: str
    index: int
    repeat: int
    num_new_tokens: int
    engine_seconds: float
    server_seconds: float
    is_same: bool
    """Whether both wrote the same text with as many tokens."""

    @property
    def ratio(self) -> float:
        """The server's tokens per second over the engine's."""
        return self.engine_seconds / self.server_seconds


@dataclass(frozen=True, slots=True)
class ServeOverhead:
    """All pairs, and what they come to. Tokens per second count everything, prefill included."""

    pairs: tuple[ServedPair, ...]
    engine_tokens_per_second: float
    """The median over the pairs."""
    server_tokens_per_second: float
    median_ratio: float
    """The server's tokens per second over the engine's: the median over the pairs."""
    total_ratio: float
    """The same of all tokens in all seconds."""
    num_different: int
    """Pairs whose texts are not the same."""

    @classmethod
    def of(cls, pairs: Sequence[ServedPair]) -> "ServeOverhead":
        """What the pairs come to; there is at least one."""
        median = statistics.median
        return cls(
            pairs=tuple(pairs),
            engine_tokens_per_second=median(p.num_new_tokens / p.engine_seconds for p in pairs),
            server_tokens_per_second=median(p.num_new_tokens / p.server_seconds for p in pairs),
            median_ratio=median(p.ratio for p in pairs),
            total_ratio=sum(p.engine_seconds for p in pairs) / sum(p.server_seconds for p in pairs),
            num_different=sum(not p.is_same for p in pairs),
        )


@dataclass(frozen=True, slots=True)
class MeasuredServer:
    """A server in this process."""

    port: int
    service: Service


def measure_serving(
    server: MeasuredServer,
    requests: Sequence[ServedRequest],
    *,
    draft: DraftName,
    num_repeats: int,
    on_step: Callable[[], None] = lambda: None,
) -> ServeOverhead:
    """Ask a server and its engine, request by request, in turn.

    Each request is written once before its pair: what drafters learn of a text would else help
    whoever comes second. Who comes first changes from pair to pair.
    """
    pairs: list[ServedPair] = []
    for repeat in range(num_repeats):
        for request in requests:
            ask_engine = partial(_ask_engine, request=request, draft=draft)
            server.service.call(ask_engine)
            is_engine_first = len(pairs) % 2 == 0
            if is_engine_first:
                direct = server.service.call(ask_engine)
                served = _ask_server(server.port, request)
            else:
                served = _ask_server(server.port, request)
                direct = server.service.call(ask_engine)
            pairs.append(_pair(request, repeat, direct, served))
            on_step()
    return ServeOverhead.of(pairs)


@contextmanager
def serving(
    load_engine: Callable[[], Engine], settings: ServerSettings
) -> Iterator[MeasuredServer]:
    """A server in threads of this process; its worker loads the engine.

    Raises:
        SelfdraftError: the model could not be loaded, or the settings do not fit it.
    """
    is_up = Event()
    app = create_app(settings, load_engine=load_engine)
    server = DrainingServer(app, on_ready=is_up.set)

    def run() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            is_up.set()  # nobody waits for a server that has ended

    with closing(listen(_HOST, 0)) as listener:
        thread = Thread(target=run, name="measured server")
        thread.start()
        try:
            is_up.wait()
            if server.failure is not None:
                raise server.failure
            yield MeasuredServer(int(listener.getsockname()[1]), app.state.backend.service)
        finally:
            server.should_exit = True
            thread.join()


def _pair(request: ServedRequest, repeat: int, direct: _Answer, served: _Answer) -> ServedPair:
    return ServedPair(
        task=request.prompt.task,
        index=request.prompt.index,
        repeat=repeat,
        num_new_tokens=direct.num_tokens,
        engine_seconds=direct.seconds,
        server_seconds=served.seconds,
        is_same=(direct.text, direct.num_tokens) == (served.text, served.num_tokens),
    )


def _ask_engine(engine: Engine, request: ServedRequest, draft: DraftName) -> _Answer:
    start = time.perf_counter()
    generation = engine.stream(
        request.engine_prompt,
        draft=draft,
        max_new_tokens=request.max_new_tokens,
        temperature=request.temperature,
        seed=request.seed,
    )
    for _ in generation:
        pass
    seconds = time.perf_counter() - start
    result = generation.result
    return _Answer(result.text, len(result.token_ids), seconds)


def _ask_server(port: int, request: ServedRequest) -> _Answer:
    connection = http.client.HTTPConnection(_HOST, port)
    body = json.dumps(request.body)
    try:
        connection.connect()
        start = time.perf_counter()
        connection.request("POST", request.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        lines = list(response)
        seconds = time.perf_counter() - start
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise PeerError(
            f"the server answered {response.status} to {request.path}: "
            f"{b''.join(lines).decode(errors='replace')[:500]}; give prompts and options it takes"
        )
    return _read_answer(lines, seconds)


def _read_answer(lines: Sequence[bytes], seconds: float) -> _Answer:
    """The text and the count of tokens in the events of a stream."""
    text: list[str] = []
    num_tokens = 0
    for line in lines:
        if not line.startswith(_DATA) or line.strip() == b"data: [DONE]":
            continue
        chunk = json.loads(line.removeprefix(_DATA))
        if "error" in chunk:
            raise PeerError(f"the server's stream ended with {chunk['error']}: see its log")
        for choice in chunk["choices"]:
            delta = choice.get("delta")
            piece = choice.get("text") if delta is None else delta.get("content")
            text.append(piece or "")
        if chunk.get("usage"):
            num_tokens = chunk["usage"]["completion_tokens"]
    return _Answer("".join(text), num_tokens, seconds)
