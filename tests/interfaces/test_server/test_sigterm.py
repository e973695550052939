"""The end of a server: what runs ends with a word, and the process with code 0."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import httpx2
import pytest
from running_server import HOST, MODEL, free_port, get_status, running, started, wait_until

pytestmark = pytest.mark.slow

NUM_STREAMS = 8
EXIT_SECONDS = 10.0
EXIT_CODES = {signal.SIGTERM: {0}, signal.SIGINT: {0, 130}}
OPTIONS = {signal.SIGTERM: (), signal.SIGINT: ("--shutdown-seconds", "2")}
"""The ten seconds are those of the default."""


@dataclass(slots=True)
class Ending:
    """What a client saw of one stream."""

    events: list[dict[str, Any]] = field(default_factory=list)
    is_done: bool = False
    is_whole: bool = False
    """Whether the response ended as HTTP says it must, and was not cut off."""

    @property
    def is_clean(self) -> bool:
        """A finish reason or an error, then [DONE], then the end."""
        last = self.events[-1]
        says_why = "error" in last or bool(last["choices"][0]["finish_reason"])
        return says_why and self.is_done and self.is_whole


def follow(url: str, seed: int, in_the_middle: Barrier) -> Ending:
    """Read a stream to its end; pass the barrier when it has written something."""
    body = {
        "model": MODEL,
        "prompt": "Once upon a time there was",
        "temperature": 0.8,
        "seed": seed,
        "max_tokens": 1500,
        "stream": True,
    }
    ending = Ending()
    with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line == "data: [DONE]":
                ending.is_done = True
            elif line.startswith("data: "):
                ending.events.append(json.loads(line.removeprefix("data: ")))
                if len(ending.events) == 3:
                    in_the_middle.wait(120)
        ending.is_whole = True
    return ending


@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
def test_a_signal_in_the_middle_of_eight_streams(number: signal.Signals) -> None:
    """Guards against streams that break off, and a process that must be killed."""
    in_the_middle = Barrier(NUM_STREAMS + 1)
    with (
        running("--max-running", str(NUM_STREAMS), *OPTIONS[number]) as server,
        ThreadPoolExecutor(8) as pool,
    ):
        streams = [
            pool.submit(follow, server.url, seed, in_the_middle) for seed in range(NUM_STREAMS)
        ]
        in_the_middle.wait(120)
        start = time.monotonic()
        server.process.send_signal(number)
        code = server.process.wait(EXIT_SECONDS)
        seconds = time.monotonic() - start
        endings = [stream.result(30) for stream in streams]
    assert all(ending.is_clean for ending in endings), [e.events[-1] for e in endings]
    assert code in EXIT_CODES[number], server.log
    assert seconds < EXIT_SECONDS
    assert "Traceback" not in server.log, server.log


def test_a_signal_to_an_idle_server() -> None:
    """Guards against a worker that waits for work for ever."""
    with running() as server:
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(EXIT_SECONDS)
    assert code == 0, server.log
    assert "Traceback" not in server.log, server.log


def test_a_signal_while_the_model_loads() -> None:
    """Guards against a process that serves nothing yet and cannot be ended."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    with started("--port", str(port)) as server:
        wait_until(lambda: get_status(f"{url}/health") == 200, server)
        asked = httpx2.post(
            f"{url}/v1/completions", json={"model": MODEL, "prompt": "hi"}, timeout=30
        )
        is_loading = asked.status_code == 503
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(EXIT_SECONDS)
    assert code == 0, server.log
    assert "Traceback" not in server.log, server.log
    assert is_loading, "it was ready before it could be asked: the test showed nothing"
    assert int(asked.headers["retry-after"]) >= 1
    assert asked.json()["error"]["message"]
