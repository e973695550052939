"""A real server in a process of its own, and what the engine alone writes for the same request."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import httpx2
import openai

from selfdraft import Engine, Result

MODEL = "smollm2-135m"
KEY = "a key of these tests"
HOST = "127.0.0.1"
READY_SECONDS = 180.0
_PROGRAM = "from selfdraft.cli.app import main; main()"
_ENGINE_NAMES = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop")


@dataclass(slots=True)
class RunningServer:
    """A process that serves, and what it wrote to stderr so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    url: str = ""
    _has_said: Event = field(default_factory=Event)

    def read(self) -> None:
        """Follow its stderr to the end; a pipe that nobody reads would stop it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("Serving ") and " at http://" in line:
                self.url = line.split(" at ")[1].split()[0]
                self._has_said.set()
        self._has_said.set()

    def wait_for_url(self) -> None:
        """Until it says where it serves."""
        assert self._has_said.wait(READY_SECONDS), self.log
        assert self.url, self.log

    @property
    def log(self) -> str:
        """Everything it wrote to stderr."""
        return "".join(self.lines)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rstrip("/").rsplit(":", 1)[1])


@contextmanager
def started(*options: str, model: str = MODEL) -> Iterator[RunningServer]:
    """`selfdraft serve MODEL OPTIONS` with one thread, ended by its own id on every way out.

    One thread, as the engine of these tests has: idle threads of two processes fight over cores.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "serve", model, "--threads", "1", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    server = RunningServer(process)
    reader = Thread(target=server.read)
    reader.start()
    try:
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def running(*options: str, model: str = MODEL) -> Iterator[RunningServer]:
    """A server on a free port that has loaded its model."""
    with started("--port", "0", *options, model=model) as server:
        server.wait_for_url()
        wait_until(lambda: get_status(f"{server.url}/ready") == 200, server)
        yield server


def client_of(server: RunningServer, key: str = KEY) -> openai.OpenAI:
    """The official client, which says at once what it is refused."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=120)


def get_status(url: str) -> int:
    """The status of a GET; 0 where nobody listens."""
    try:
        return httpx2.get(url, timeout=30).status_code
    except httpx2.TransportError:
        return 0


def wait_until(
    is_so: Callable[[], bool], server: RunningServer, seconds: float = READY_SECONDS
) -> None:
    """Ask again and again; what never comes fails with the server's own words."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"waited in vain: {server.log}"
        assert server.process.poll() is None, f"it ended: {server.log}"
        Event().wait(0.05)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@functools.cache
def offline_engine(model: str = MODEL) -> Engine:
    """The same model in this process, decoding plainly: what every answer is compared with."""
    return Engine.load(model, draft="off")


def offline(body: Mapping[str, Any], choice: int = 0, **more: Any) -> Result:
    """What the engine writes for the body of a request: its choice of that number.

    `logprobs` and `logits_processors` are not read from the body: give them.
    """
    options = {name: body[name] for name in _SAMPLING if name in body}
    options |= {new: body[old] for old, new in _ENGINE_NAMES.items() if old in body}
    options.setdefault("temperature", 1.0)
    options["seed"] = options.get("seed", 0) + choice
    prompt = body["messages"] if "messages" in body else body["prompt"]
    return offline_engine(body.get("model", MODEL)).generate(prompt, **options, **more)


def finish_of(result: Result) -> str:
    """The finish reason in OpenAI's words."""
    return {"eos": "stop", "stop": "stop", "length": "length", "context": "length"}[
        str(result.finish_reason)
    ]
