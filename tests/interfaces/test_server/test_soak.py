"""Many clients at once who come and go: no answer is wrong or lost, and nothing is left behind.

A tiny model of random weights answers thousands of them, and its texts are as varied as can be; the
real one has the drafts, the search and the memory that users have. `SELFDRAFT_SOAK_SECONDS` is how
long; the full version is 120.
"""

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from running_server import MODEL, RunningServer, finish_of, offline, running, wait_until
from tiny_models import byte_tokenizer, tiny_model

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("SELFDRAFT_SOAK_SECONDS", "12"))
NUM_CLIENTS = 32
MAX_RUNNING, MAX_QUEUE = 6, 12
MOST_TOKENS = {MODEL: 10}
"""Shorter answers of a slow model: more of them, and none that outlasts the test."""
LEAVING = 0.25
"""Share of the requests whose client goes away before the end."""
SPARE_BYTES = 96 * 2**20
"""What an allocator may keep: fragments, and what drafters remember of texts, which is bounded."""

Answer = tuple[str, str]
"""The text, and why it ended."""


def _chat(text: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **options}


def _completion(text: str, **options: Any) -> dict[str, Any]:
    return {"prompt": text, **options}


REQUESTS: tuple[dict[str, Any], ...] = (
    _chat("Name three rivers.", temperature=0, max_tokens=24),
    _chat("Name three rivers.", temperature=0.8, seed=1, max_tokens=24),
    _chat("Name three rivers.", temperature=0.8, seed=2, max_tokens=24, draft="off"),
    _chat("Why is the sky blue?", temperature=1.0, top_p=0.9, seed=3, max_tokens=32),
    _chat("Write one line of Python.", temperature=0, max_tokens=16, draft="swift"),
    _chat("Repeat after me: one, two, three, one, two, three.", temperature=0, max_tokens=24),
    _chat("Say hello in French.", temperature=0.5, top_k=20, seed=4, max_tokens=12),
    _completion("1, 2, 3, 4, 5,", temperature=0, max_tokens=32, draft="suffix"),
    _completion("Once upon a time", temperature=1.0, min_p=0.1, seed=5, max_tokens=24),
    _completion("The capital of France is", temperature=0, max_tokens=8, stop=["."]),
    _completion("def add(a, b):", temperature=0, max_tokens=24, draft="recycling"),
    _completion("日本の首都は", temperature=0.7, seed=6, max_tokens=12, repetition_penalty=1.2),
)


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    bodies: Sequence[dict[str, Any]]
    expected: Sequence[Answer]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, Answer]] = field(default_factory=list)
    most_running: int = 0
    most_unfinished: int = 0

    def check(self, number: int, answer: Answer) -> None:
        """Count a finished answer, and keep it if it is not the offline one."""
        self.counts["finished"] += 1
        if answer != self.expected[number]:
            self.wrong.append((number, answer))


@pytest.fixture(params=["tiny", MODEL])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A name or a folder."""
    if request.param != "tiny":
        return str(request.param)
    tokenizer = byte_tokenizer()
    tiny = tiny_model(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    tiny.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.fixture
def server(model: str) -> Iterator[RunningServer]:
    limits = ("--max-running", str(MAX_RUNNING), "--max-queue", str(MAX_QUEUE))
    with running(*limits, model=model) as server:
        yield server


def test_many_clients_who_come_and_go(server: RunningServer, model: str) -> None:
    """Guards against answers that mix, requests that are lost, leaks, and limits not kept."""
    most = MOST_TOKENS.get(model, 10**6)
    bodies = [
        {**request, "model": model, "max_tokens": min(most, request["max_tokens"])}
        for request in REQUESTS
    ]
    expected = [(result.text, finish_of(result)) for result in map(offline, bodies)]
    tally, warm_up = Tally(bodies, expected), Tally(bodies, expected)
    asyncio.run(soak(server.url, warm_up, max(4.0, SECONDS / 4), seed=1))
    wait_until(lambda: is_idle(server), server, 30)
    before = memory(server)
    asyncio.run(soak(server.url, tally, SECONDS, seed=2))
    wait_until(lambda: is_idle(server), server, 30)
    grown = memory(server) - before
    print(f"\n{dict(tally.counts)}, {grown / 2**20:+.0f} MiB of {before / 2**20:.0f}")
    assert not tally.wrong, [(bodies[n], answer, expected[n]) for n, answer in tally.wrong[:3]]
    counts = tally.counts
    assert counts["started"] == counts["finished"] + counts["left"] + counts["refused"]
    assert counts["finished"] > 0
    assert counts["left"] > 0
    assert counts["refused"] > 0
    assert tally.most_running <= MAX_RUNNING
    assert tally.most_unfinished <= MAX_RUNNING + MAX_QUEUE
    assert grown < SPARE_BYTES + before // 20


async def soak(url: str, tally: Tally, seconds: float, *, seed: int) -> None:
    """Let all clients ask until the time is over; each ends with an answer, not in the middle."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=NUM_CLIENTS)
    async with httpx2.AsyncClient(base_url=url, timeout=240, limits=limits) as http:
        end = time.monotonic() + seconds
        watcher = asyncio.create_task(watch(http, tally))
        async with asyncio.TaskGroup() as group:
            for number in range(NUM_CLIENTS):
                rng = random.Random(1000 * seed + number)
                group.create_task(ask_until(http, tally, end, rng))
        watcher.cancel()


async def watch(http: httpx2.AsyncClient, tally: Tally) -> None:
    """Note the most that runs, and that is there at all."""
    while True:
        state = (await http.get("/v1/draft")).json()
        tally.most_running = max(tally.most_running, state["num_running"])
        unfinished = state["num_running"] + state["num_waiting"]
        tally.most_unfinished = max(tally.most_unfinished, unfinished)
        await asyncio.sleep(0.2)


async def ask_until(http: httpx2.AsyncClient, tally: Tally, end: float, rng: random.Random) -> None:
    """One client: it asks, is answered or refused or goes away, and asks again."""
    while time.monotonic() < end:
        number = rng.randrange(len(tally.bodies))
        is_streamed = rng.random() < 0.6
        leaves = rng.random() < LEAVING
        tally.counts["started"] += 1
        ask = ask_streamed if is_streamed else ask_whole
        if not await ask(http, tally, number, rng if leaves else None):
            tally.counts["refused"] += 1
            await asyncio.sleep(rng.uniform(0.1, 1.0))


async def ask_streamed(
    http: httpx2.AsyncClient, tally: Tally, number: int, leaving: random.Random | None
) -> bool:
    """Read a stream to its end, or go away after some events. False if the queue was full."""
    num_events = leaving.randrange(1, 8) if leaving else None
    text, reason, is_done = "", "", False
    async with opened(http, tally.bodies[number] | {"stream": True}) as response:
        if response.status_code == 429:
            return refused(response)
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                is_done = True
            elif line.startswith("data: "):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                piece, ended = read_choice(chunk["choices"][0])
                text, reason = text + piece, ended or reason
                if num_events is not None:
                    num_events -= 1
                    if num_events == 0:
                        tally.counts["left"] += 1
                        return True
    assert is_done, f"a stream broke off after {text!r}"
    tally.check(number, (text, reason))
    return True


async def ask_whole(
    http: httpx2.AsyncClient, tally: Tally, number: int, leaving: random.Random | None
) -> bool:
    """Wait for the whole answer, or go away after a while. False if the queue was full."""
    body = tally.bodies[number]
    patience = leaving.uniform(0.02, 1.0) if leaving else None
    try:
        async with asyncio.timeout(patience):
            response = await http.post(path_of(body), json=body)
    except TimeoutError:
        tally.counts["left"] += 1
        return True
    if response.status_code == 429:
        return refused(response)
    assert response.status_code == 200, response.text
    tally.check(number, read_choice(response.json()["choices"][0]))
    return True


@asynccontextmanager
async def opened(http: httpx2.AsyncClient, body: dict[str, Any]) -> AsyncIterator[httpx2.Response]:
    async with http.stream("POST", path_of(body), json=body) as response:
        yield response


def refused(response: httpx2.Response) -> bool:
    """That a 429 says when to come again."""
    assert int(response.headers["retry-after"]) >= 1
    return False


def path_of(body: dict[str, Any]) -> str:
    return "/v1/chat/completions" if "messages" in body else "/v1/completions"


def read_choice(choice: dict[str, Any]) -> Answer:
    """Text and finish reason of a choice, in any of the four shapes."""
    message = choice.get("message") or choice.get("delta")
    text = choice.get("text") if message is None else message.get("content")
    return text or "", choice.get("finish_reason") or ""


def is_idle(server: RunningServer) -> bool:
    state = httpx2.get(f"{server.url}/v1/draft", timeout=30).json()
    return bool(state["num_running"] == 0 and state["num_waiting"] == 0)


def memory(server: RunningServer) -> int:
    """Resident bytes of the server."""
    return int(psutil.Process(server.process.pid).memory_info().rss)
