"""Who runs when: turns, limits, cancellation, failures and the end, on an engine of toy rounds."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from server_runs import Gate, in_loop, settings, until

from selfdraft.decoding.stats import Stats
from selfdraft.errors import ConfigError, ModelNotFoundError
from selfdraft.server.errors import ApiError
from selfdraft.server.job import Ask, Ended, Job, Written
from selfdraft.server.metrics import Metrics, Snapshot
from selfdraft.server.service import Service
from selfdraft.text.prompt import EncodedPrompt
from selfdraft.text.text_stream import Piece


class ToyGeneration:
    """One token a round, as many as its prompt's first token says; token 0 breaks in round 2."""

    def __init__(self, engine: "ToyEngine", token_ids: list[int]) -> None:
        self._engine = engine
        self._name = token_ids[-1]
        self._length = token_ids[0]
        self.stats = Stats(num_prompt_tokens=len(token_ids))
        engine.alive.add(self)
        engine.most_alive = max(engine.most_alive, len(engine.alive))

    def step(self) -> list[Piece]:
        self._engine.gate.wait()
        self._engine.rounds.append(self._name)
        if self._length == 0 and self.stats.num_new_tokens == 1:
            raise RuntimeError("secret of the model")
        self.stats.num_new_tokens += 1
        self.stats.count_round(2, num_accepted=1)
        return [Piece("a", (self._name,), ("target",))]

    @property
    def is_finished(self) -> bool:
        return self.stats.num_new_tokens == self._length

    @property
    def result(self) -> Any:
        return SimpleNamespace(finish_reason="length", stats=self.stats, logprobs=None)

    def close(self) -> None:
        self._engine.alive.discard(self)


class ToyEngine:
    """Generates what `ToyGeneration` does, and remembers whose rounds there were."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.rounds: list[int] = []
        self.alive: set[ToyGeneration] = set()
        self.most_alive = 0

    def stream(self, prompt: EncodedPrompt, **options: Any) -> ToyGeneration:
        token_ids = prompt.token_ids
        if token_ids[0] < 0:
            raise ConfigError("seed is bad")
        return ToyGeneration(self, token_ids)


@asynccontextmanager
async def service_of(engine: ToyEngine, **overrides: Any) -> AsyncIterator[Service]:
    """A service on the toy engine; everything has ended when the block is left."""
    service = Service(settings(**overrides), lambda: engine, Metrics(Snapshot))  # type: ignore[arg-type, return-value]
    service.start()
    try:
        await asyncio.to_thread(until, lambda: service.state != "loading")
        yield service
    finally:
        engine.gate.open()
        service.abort()
        assert await asyncio.to_thread(service.join, 30)


def new_job(length: int, name: int, *, num_choices: int = 1) -> Job:
    asks = [Ask(EncodedPrompt([length, name]), "off", {}) for _ in range(num_choices)]
    return Job("id", asks, 2, asyncio.get_running_loop())


async def submit_behind_a_blocker(service: Service, engine: ToyEngine, jobs: list[Job]) -> Job:
    """Let `jobs` all arrive while the worker is in the first round of another, which it returns."""
    blocker = new_job(1, 99)
    service.submit(blocker)
    await asyncio.to_thread(engine.gate.await_round)
    for job in jobs:
        service.submit(job)
    return blocker


async def end_of(job: Job) -> list[Written | Ended]:
    return [event async for event in job.events()]


def test_running_requests_take_turns() -> None:
    """Guards against a request that is written to its end while others wait for a token."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine) as service:
            jobs = [new_job(4, 1), new_job(2, 2), new_job(3, 3)]
            await submit_behind_a_blocker(service, engine, jobs)
            engine.gate.open()
            ends = await asyncio.gather(*(end_of(job) for job in jobs))
        assert [len(events) for events in ends] == [5, 3, 4]

    in_loop(work)
    assert engine.rounds == [99, 1, 2, 3, 1, 2, 3, 1, 3, 1]


def test_choices_of_a_request_share_its_turns() -> None:
    """Guards against `n` as a way to get more than one's share, or all their caches at once."""
    engine = ToyEngine(Gate())

    async def work() -> Any:
        async with service_of(engine) as service:
            jobs = [new_job(2, 1, num_choices=2), new_job(4, 2)]
            await submit_behind_a_blocker(service, engine, jobs)
            engine.gate.open()
            return (await asyncio.gather(*(end_of(job) for job in jobs)))[0]

    events = in_loop(work)
    assert engine.rounds == [99, 1, 2, 1, 2, 1, 2, 1, 2]
    written = [event for event in events if isinstance(event, Written)]
    assert [event.choice for event in written] == [0, 0, 1, 1]
    assert [event.finish_reason for event in written] == [None, "length", None, "length"]
    summary = events[-1].summary
    assert summary.usage() == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert summary.speculation.as_dict() == {
        "num_drafts": 4,
        "num_draft_tokens": 8,
        "num_accepted_tokens": 0,
        "draft_acceptance_rate": 0.0,
        "mean_acceptance_length": 1.0,
        "acceptance_per_position": [1.0, 0.0],
    }


def test_no_more_run_than_may() -> None:
    """Guards against one cache for each request that came, until memory is full."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine, max_running=2) as service:
            jobs = [new_job(3, name) for name in range(5)]
            await submit_behind_a_blocker(service, engine, jobs)
            engine.gate.open()
            await asyncio.gather(*(end_of(job) for job in jobs))

    in_loop(work)
    assert engine.most_alive == 2


def test_queue_is_bounded() -> None:
    """Guards against a queue without end, and against a slot that is lost with its request."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine, max_running=1, max_queue=2) as service:
            first, second = new_job(1, 1), new_job(1, 2)
            await submit_behind_a_blocker(service, engine, [first, second])
            with pytest.raises(ApiError) as refusal:
                service.submit(new_job(1, 3))
            assert refusal.value.status == 429
            assert "Retry-After" in refusal.value.headers
            assert (service.num_running, service.num_waiting) == (1, 2)
            service.cancel(first)
            service.submit(new_job(1, 4))
            engine.gate.open()
            await end_of(second)

    in_loop(work)
    assert 1 not in engine.rounds
    assert 3 not in engine.rounds


def test_cancelled_request_gets_no_further_round() -> None:
    """Guards against a worker that writes on for a reader who has left."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine) as service:
            job = new_job(1000, 1)
            service.submit(job)
            await asyncio.to_thread(engine.gate.await_round)
            service.cancel(job)
            engine.gate.let(1)
            await asyncio.to_thread(until, lambda: service.num_running == 0)
            await asyncio.to_thread(until, lambda: not engine.alive)

    in_loop(work)
    assert engine.rounds == [1]


def test_failing_request_fails_alone() -> None:
    """Guards against one request that ends the worker, and against internals in an answer."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine) as service:
            jobs = [new_job(0, 1), new_job(-1, 2), new_job(3, 3)]
            await submit_behind_a_blocker(service, engine, jobs)
            engine.gate.open()
            broken, refused, fine = await asyncio.gather(
                *(end_of(job) for job in jobs), return_exceptions=True
            )
            assert isinstance(broken, ApiError)
            assert (broken.status, "secret" in broken.message) == (500, False)
            assert isinstance(refused, ApiError)
            assert (refused.status, refused.message) == (400, "seed is bad")
            assert isinstance(fine, list)
            assert service.state == "ready"
            assert not engine.alive

    in_loop(work)


def test_worker_that_fails_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against requests that wait for ever on a thread that is gone."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine) as service:
            jobs = [new_job(5, 1), new_job(5, 2)]
            await submit_behind_a_blocker(service, engine, jobs)
            monkeypatch.setattr(service, "_admit", lambda: 1 / 0)
            engine.gate.open()
            for job in jobs:
                with pytest.raises(ApiError) as failure:
                    await end_of(job)
                assert failure.value.status == 500
            assert service.state == "dead"
            with pytest.raises(ApiError) as refusal:
                service.submit(new_job(1, 3))
            assert refusal.value.status == 503

    in_loop(work)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [ModelNotFoundError("no model"), RuntimeError("broken")])
def test_model_that_cannot_be_loaded(error: Exception) -> None:
    """Guards against a service that says it is loading for ever."""

    def load() -> Any:
        raise error

    logging.getLogger("selfdraft.server.service").setLevel(logging.CRITICAL)
    try:
        service = Service(settings(), load, Metrics(Snapshot))
        service.start()
        assert service.join(30)
    finally:
        logging.getLogger("selfdraft.server.service").setLevel(logging.NOTSET)
    assert (service.failure, service.state) == (error, "dead")


def test_shutdown_lets_running_requests_end() -> None:
    """Guards against streams that are cut, and against requests that are taken and not answered."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine, max_running=1) as service:
            waiting = new_job(1, 2)
            running = await submit_behind_a_blocker(service, engine, [waiting])
            service.begin_shutdown()
            for refused in (lambda: service.submit(new_job(1, 3)), service.require_ready):
                with pytest.raises(ApiError) as refusal:
                    refused()
                assert (refusal.value.status, refusal.value.code) == (503, "shutting_down")
            with pytest.raises(ApiError, match="shutting down"):
                await end_of(waiting)
            engine.gate.open()
            assert isinstance((await end_of(running))[-1], Ended)
            assert await asyncio.to_thread(service.join, 30)
            assert service.state == "ended"

    in_loop(work)


@pytest.mark.parametrize("end", [Service.abort, Service.begin_shutdown], ids=["abort", "deadline"])
def test_what_runs_too_long_is_ended(end: Callable[[Service], None]) -> None:
    """Guards against a shutdown that waits for the longest request."""
    engine = ToyEngine(Gate())

    async def work() -> None:
        async with service_of(engine, shutdown_seconds=0) as service:
            job = new_job(1000, 1)
            service.submit(job)
            await asyncio.to_thread(engine.gate.await_round)
            end(service)
            if end is Service.begin_shutdown:
                engine.gate.let(1)
            # An abort is told at once, though the worker is in the middle of a round.
            with pytest.raises(ApiError, match="shutting down"):
                await end_of(job)
            engine.gate.open()
            assert await asyncio.to_thread(service.join, 30)

    in_loop(work)
    assert len(engine.rounds) == 1
    assert not engine.alive
