"""Many clients at once, clients who leave, and the server's own end."""

import asyncio
import json
import logging
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Thread, current_thread
from typing import Any

import httpx2
import pytest
from server_runs import Gate, chat_body, events, gated_engine, serving, until
from tiny_models import text_engine

from selfdraft.errors import ConfigError, ModelNotFoundError
from selfdraft.server.app import create_app
from selfdraft.server.errors import ApiError
from selfdraft.server.logging_format import JsonFormatter
from selfdraft.server.running import DrainingServer, listen
from selfdraft.server.settings import ServerSettings

MESSAGES = [{"role": "user", "content": "the thé"}]


def send_raw(url: httpx2.URL, body: dict[str, Any]) -> socket.socket:
    """A connection that has sent a request and reads nothing."""
    content = json.dumps(body).encode()
    connection = socket.create_connection((url.host, url.port))
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(content) + content
    )
    return connection


@pytest.mark.slow
def test_interleaved_answers_are_those_of_each_alone() -> None:
    """Guards against requests that see each other's cache, seed or text."""
    with serving(max_running=3) as server, ThreadPoolExecutor(8) as pool:
        seeds = range(12)

        def ask(seed: int) -> str:
            response = server.ask(
                seed=seed, temperature=1.0, max_tokens=24, stream=seed % 2 == 0, draft="auto"
            )
            if seed % 2:
                return response.json()["choices"][0]["message"]["content"]
            deltas = [chunk["choices"][0]["delta"] for chunk in events(response)]
            return "".join(delta.get("content", "") for delta in deltas)

        written = list(pool.map(ask, seeds))
    for seed, text in zip(seeds, written, strict=True):
        expected = text_engine().generate(MESSAGES, seed=seed, temperature=1.0, max_new_tokens=24)
        assert text == expected.text


@pytest.mark.parametrize("is_stream", [True, False])
def test_disconnect_frees_the_worker_within_a_round(is_stream: bool) -> None:
    """Guards against a worker that writes hundreds of tokens for nobody."""
    gate = Gate()
    with serving(lambda: gated_engine(gate)) as server:
        body = chat_body(stream=is_stream, max_tokens=900)
        with send_raw(server.client.base_url, body):
            gate.await_round()
        service = server.backend.service
        job = service._running[0].job
        until(lambda: job.is_cancelled)
        gate.let(1)
        until(lambda: gate.num_closed == 1 and service.num_running == 0)
        assert gate.num_rounds == 1
        gate.open()
        assert server.ask().status_code == 200


def test_disconnect_of_a_waiting_request_frees_its_place() -> None:
    """Guards against a queue that is full of clients who have left."""
    gate = Gate()
    with serving(lambda: gated_engine(gate), max_running=1, max_queue=1) as server:
        service = server.backend.service
        first = Thread(target=server.ask)
        first.start()
        gate.await_round()
        with send_raw(server.client.base_url, chat_body(stream=True)):
            until(lambda: service.num_waiting == 1)
        until(lambda: service.num_waiting == 0)
        gate.open()
        first.join()


@pytest.mark.slow
def test_random_disconnects_leave_nothing_behind() -> None:
    """Guards against a slot, a queue place or an answer that is lost where clients come and go."""
    rng = random.Random(0)
    kinds = [rng.random() < 0.5 for _ in range(24)]
    with serving(max_running=2) as server, ThreadPoolExecutor(6) as pool:

        def visit(kind: tuple[int, bool]) -> str | None:
            seed, leaves = kind
            body = chat_body(seed=seed, temperature=1.0, max_tokens=40)
            if leaves:
                send_raw(server.client.base_url, body).close()
                return None
            return server.ask(**body).json()["choices"][0]["message"]["content"]

        answers = list(pool.map(visit, enumerate(kinds)))
        service = server.backend.service
        until(lambda: service.num_running == service.num_waiting == 0)
    for seed, answer in enumerate(answers):
        if answer is not None:
            options = {"seed": seed, "temperature": 1.0, "max_new_tokens": 40}
            assert answer == text_engine().generate(MESSAGES, **options).text


def test_calls_run_in_the_thread_that_owns_the_model() -> None:
    """Guards against a measurement with two threads that compute, of which each slows the other."""
    with serving() as server:
        service = server.backend.service
        assert service.call(lambda engine: current_thread().name) == "selfdraft-worker"
        with pytest.raises(KeyError, match="mine"):
            service.call(lambda engine: {}["mine"])
        assert server.ask().status_code == 200
    with pytest.raises(ApiError):
        service.call(lambda engine: None)


def test_end_of_the_server_lets_streams_end() -> None:
    """Guards against answers that are cut where there was time to write them."""
    gate = Gate()
    with serving(lambda: gated_engine(gate)) as server, ThreadPoolExecutor(3) as pool:
        streams = [
            pool.submit(server.ask, stream=True, max_tokens=20, draft="off") for _ in range(3)
        ]
        service = server.backend.service
        until(lambda: service.num_running + service.num_waiting == 3)
        gate.let(2)  # the turn that runs is over, of one or two; the next one is for all three
        until(lambda: service.num_running == 3)
        server.server.should_exit = True
        until(lambda: service.state == "ending")
        gate.open()
        for stream in streams:
            assert events(stream.result())[-1]["choices"][0]["finish_reason"] == "length"
        server.loop_thread.join(30)
        assert not server.loop_thread.is_alive()


def test_end_of_the_server_ends_what_takes_too_long() -> None:
    """Guards against a server that cannot be ended, and streams that end without a word."""
    gate = Gate()
    with serving(lambda: gated_engine(gate), shutdown_seconds=0.2) as server:
        service = server.backend.service
        with ThreadPoolExecutor(2) as pool:
            stream = pool.submit(server.ask, stream=True, max_tokens=900, draft="off")
            gate.await_round()
            whole = pool.submit(server.ask, max_tokens=900, draft="off")
            until(lambda: service.num_running + service.num_waiting == 2)
            gate.let(12)
            until(lambda: gate.num_rounds == 12)
            server.server.should_exit = True
            assert events(stream.result())[-1]["error"]["code"] == "shutting_down"
            assert whole.result().status_code == 503
        server.loop_thread.join(30)
        assert not server.loop_thread.is_alive()
        gate.open()


def test_model_that_cannot_be_loaded_ends_the_server() -> None:
    """Guards against a server that answers 503 for ever, and hides why."""

    def load() -> Any:
        raise ModelNotFoundError("no such model")

    app = create_app(ServerSettings(served_model_name="m"), load_engine=load)
    with pytest.raises(ModelNotFoundError, match="no such model"):
        DrainingServer(app).serve_on(listen("127.0.0.1", 0))


def test_limit_beyond_the_model_ends_the_server() -> None:
    """Guards against a context that is promised and that the model does not have."""
    app = create_app(
        ServerSettings(served_model_name="m", max_model_len=4096), load_engine=text_engine
    )
    with pytest.raises(ConfigError, match="max_model_len"):
        DrainingServer(app).serve_on(listen("127.0.0.1", 0))


def test_port_in_use() -> None:
    """Guards against a traceback where a word would do, after the model was loaded for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match="host"):
        listen("no.such.host.invalid", 0)


def test_answers_are_sent_at_once() -> None:
    """Guards against 40 ms for every answer: asyncio left Nagle's algorithm on for our socket."""

    async def delays() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with closing(listen("127.0.0.1", 0)) as listener:
            async with await asyncio.start_server(on_client, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                is_without_delay = await accepted
                writer.close()
        return is_without_delay

    assert asyncio.run(delays())


def test_log_has_ids_and_no_prompts(caplog: pytest.LogCaptureFixture) -> None:
    """Guards against what users wrote in a log, and against lines that nobody can match."""
    caplog.set_level(logging.INFO, logger="selfdraft.server.access")
    with serving() as server:
        server.client.post(
            "/v1/chat/completions", json=chat_body(), headers={"x-request-id": "mine"}
        )
        server.client.get("/secret-path")
    line, other = (json.loads(JsonFormatter().format(record)) for record in caplog.records)
    assert "thé" not in json.dumps(line, ensure_ascii=False)
    assert (line["request_id"], line["route"], line["status"]) == (
        "mine",
        "/v1/chat/completions",
        200,
    )
    assert line["completion_tokens"] == 8
    assert line["prompt_tokens"] > 0
    assert line["seconds"] > 0
    assert (other["status"], other["route"]) == (404, None)
    caplog.clear()
    with serving(log_prompts=True) as server:
        server.ask()
    (line,) = (json.loads(JsonFormatter().format(record)) for record in caplog.records)
    assert line["prompt"] == MESSAGES


def test_files_of_the_page() -> None:
    """Guards against a page that a browser refuses, and files of the package that leak."""
    with serving() as server:
        answer = server.client.get("/")
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        for name in ("__init__.py", "..%2fapp.py", "index", ".html", "a/b.js", "app.py%00.js"):
            assert server.client.get(f"/page/{name}").status_code == 404


def test_streams_end_when_the_loop_does() -> None:
    """Guards against a worker that dies of delivering to a loop that is gone."""
    from selfdraft.server.errors import internal
    from selfdraft.server.job import Job

    async def make() -> Job:
        return Job("id", [], 0, asyncio.get_running_loop())

    job = asyncio.run(make())
    job.deliver(internal())
    assert job.is_cancelled
