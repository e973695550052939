"""`selfdraft chat --url`: the same conversation, with a server at its other end."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_server import (
    CHAT,
    DRAFT,
    MODELS,
    FakeServer,
    Reply,
    answer,
    as_json,
    chunk,
    events,
    fake_server,
    refusal,
)
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.delenv("SELFDRAFT_API_KEY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_server() as running:
        running.will_reply(CHAT, answer("Hel", "lo."))
        yield running


def stdout_of(result: Result) -> str:
    return result.stdout_bytes.decode()


def errors_of(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def test_the_history_is_part_of_the_next_request(run: Run, server: FakeServer) -> None:
    """Guards the memory of a chat, stdout, and what a request says unasked."""
    server.will_reply(CHAT, answer("Hel", "lo."), answer("Fine", "."))
    result = run("chat", "--url", server.url, "--system", "be kind", stdin="hi\n\nhow?\n")
    assert result.exit_code == 0, result.output
    assert stdout_of(result) == "Hello.\nFine.\n"
    first, second = server.bodies(CHAT)
    assert first == {
        "model": "served",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "draft": "auto",
        "stream": True,
        "stream_options": {"include_usage": True, "include_sources": True},
        "max_tokens": 256,
        "temperature": 0.0,
        "seed": 0,
    }
    assert second["messages"][2:] == [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "how?"},
    ]
    assert len(server.bodies(MODELS)) == 1


def test_options_reach_the_server(run: Run, server: FakeServer) -> None:
    """Guards the names that sampling has over HTTP, the served name, and /v1 in an address."""
    options = ("--temperature", 0.5, "--top-p", 0.9, "--top-k", 5, "--min-p", 0.1, "--seed", 3)
    more = ("--repetition-penalty", 1.2, "--stop", "x", "--max-new-tokens", 9, "--draft", "swift")
    result = run("chat", "mine", "--url", f"{server.url}/v1/", *options, *more, stdin="hi\n")
    assert result.exit_code == 0, result.output
    (body,) = server.bodies(CHAT)
    expected = {
        "model": "mine",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "stop": ["x"],
        "seed": 3,
        "max_tokens": 9,
        "draft": "swift",
    }
    assert body.items() >= expected.items()
    assert server.bodies(MODELS) == []


def test_the_commands_work_as_with_a_model(run: Run, server: FakeServer, tmp_path: Path) -> None:
    """Guards /draft, /system, /stats, /save and /reset."""
    speculative = {"num_draft_tokens": 8, "num_accepted_tokens": 6, "draft_acceptance_rate": 0.75}
    metrics = {"tokens_per_second": 41.5, "speculative_decoding": speculative}
    server.will_reply(CHAT, answer("Yes", ".", metrics=metrics))
    plan = {"attention": [3, 4], "mlp": [5], "weight_bits": 4}
    server.will_reply(DRAFT, as_json({"draft": "auto", "plan": plan}))
    file = tmp_path / "chat.json"
    lines = ["/stats", "/draft", "/draft off", "hi", "/stats", f"/save {file}"]
    lines += ["/system be kind", "/reset", "/draft auto", "hi"]
    result = run("chat", "--url", server.url, stdin="\n".join(lines) + "\n")
    assert result.exit_code == 0, result.output
    assert errors_of(result) == ["error: there is no answer yet: write a message first"]
    assert "(auto: 4-bit weights, skips 2 attention + 1 MLP sublayers)" in result.stderr
    assert "(off: plain decoding)" in result.stderr
    assert "41.5 tokens/s" in result.stderr
    assert "0.75" in result.stderr
    assert json.loads(file.read_text("utf-8")) == {
        "model": "served",
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Yes."}],
    }
    first, second = server.bodies(CHAT)
    assert (first["draft"], second["draft"]) == ("off", "auto")
    assert second["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize("where", ["option", "environment"])
def test_the_key_is_sent(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Guards --api-key and SELFDRAFT_API_KEY, which must not be seen in a list of processes."""
    if where == "environment":
        monkeypatch.setenv("SELFDRAFT_API_KEY", "secret")
    given = ("--api-key", "secret") if where == "option" else ()
    assert run("chat", "--url", server.url, *given, stdin="hi\n").exit_code == 0
    sent = {received.headers.get("Authorization") for received in server.received}
    assert sent == {"Bearer secret"}


REFUSALS: dict[str, tuple[Reply, tuple[str, ...]]] = {
    "no key": (refusal(401, "no key"), ("--api-key", "SELFDRAFT_API_KEY")),
    "full queue": (refusal(429, "64 wait", Retry_After="3"), ("busy (64 wait)", "in 3 s")),
    "loading": (refusal(503, "loading", Retry_After="2"), ("not ready (loading)", "in 2 s")),
    "no hint when": (refusal(503, "loading"), ("not ready (loading)", "try again later")),
    "failed": (refusal(500, "oops"), ("failed with 500 (oops)", "log")),
    "too long": (refusal(400, "too many tokens", "messages"), ("too many tokens", "/reset")),
    "wrong": (refusal(400, "seed is -1", "seed"), ("refuses: seed is -1",)),
    "no such page": (Reply("<html>", 404), ("no OpenAI-compatible server", "404", "--url")),
    "no stream": (as_json({"choices": []}), ("broke", "event-stream")),
    "gave up": (events({"error": {"message": "stopped"}}), ("gave up: stopped",)),
    "nonsense": (Reply("data: {\n\n", headers={"Content-Type": "text/event-stream"}), ("--url",)),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_said_and_does_not_end_the_chat(
    run: Run, server: FakeServer, case: str
) -> None:
    """Guards each status by its remedy; the question leaves no trace, and the next is answered."""
    reply, words = REFUSALS[case]
    server.will_reply(CHAT, reply, answer("Yes."))
    result = run("chat", "--url", server.url, stdin="first\nsecond\n")
    assert result.exit_code == 0, result.output
    (error,) = errors_of(result)
    assert [word for word in words if word not in error] == []
    assert stdout_of(result) == "Yes.\n"
    assert server.bodies(CHAT)[1]["messages"] == [{"role": "user", "content": "second"}]


def test_a_wrong_key_is_told_from_a_missing_one(run: Run, server: FakeServer) -> None:
    """Guards against advice to give a key to who gave one."""
    server.will_reply(MODELS, refusal(401, "wrong key"))
    result = run("chat", "--url", server.url, "--api-key", "x", stdin="hi\n")
    assert "does not accept the API key (wrong key)" in errors_of(result)[0]


def test_a_server_without_models_is_said(run: Run, server: FakeServer) -> None:
    """Guards against an IndexError on an empty list."""
    server.will_reply(MODELS, as_json({"data": []}))
    result = run("chat", "--url", server.url, stdin="hi\n")
    assert "names no model: give MODEL" in errors_of(result)[0]


def test_no_server_is_said_and_does_not_end_the_chat(run: Run, tmp_path: Path) -> None:
    """Guards a chat that begins before its server, and the conversation that is in it."""
    with fake_server() as gone:
        url = gone.url
    file = tmp_path / "chat.json"
    result = run("chat", "--url", url, stdin=f"hi\n/draft\n/save {file}\n")
    assert result.exit_code == 0, result.output
    for error in errors_of(result):
        assert f"no server answers at {url}" in error
        assert "selfdraft serve" in error
    assert len(errors_of(result)) == 2
    assert json.loads(file.read_text("utf-8")) == {"model": url, "messages": []}


def test_a_broken_connection_keeps_the_beginning(run: Run, server: FakeServer) -> None:
    """Guards what was read already: it stays on the screen, in its own line, and is history."""
    broken = events(chunk("Hel"), chunk("lo"), is_whole=False)
    server.will_reply(CHAT, broken, answer("Yes."))
    result = run("chat", "--url", server.url, stdin="hi\ngo on\n")
    assert stdout_of(result) == "Hello\nYes.\n"
    assert "ended before the answer did" in errors_of(result)[0]
    assert server.bodies(CHAT)[1]["messages"][1] == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("max_tokens", "words"), [(2, "--max-new-tokens allows no more"), (9, "context is full")]
)
def test_a_cut_answer_says_what_was_full(
    run: Run, server: FakeServer, max_tokens: int, words: str
) -> None:
    """Guards the two meanings of OpenAI's "length"."""
    server.will_reply(CHAT, answer("Hel", "lo", finish_reason="length"))
    result = run("chat", "--url", server.url, "--max-new-tokens", max_tokens, stdin="hi\n")
    assert "(cut after 2 tokens" in result.stderr
    assert words in result.stderr


def test_ctrl_c_closes_the_connection_and_not_the_chat(run: Run, server: FakeServer) -> None:
    """Guards the server's worker, which is freed by that, and the next message."""
    endless = events(chunk("Hel"), chunk("lo"), is_whole=False)
    main = threading.main_thread().ident
    assert main is not None
    endless.then = lambda: signal.pthread_kill(main, signal.SIGINT)
    server.will_reply(CHAT, endless, answer("Yes."))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("chat", "--url", server.url, stdin="hi\nagain\n")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 0, result.output
    assert server.client_left.wait(30)
    assert "(stopped after" in result.stderr
    assert errors_of(result) == []
    assert stdout_of(result).endswith("Yes.\n")


def test_what_is_not_utf8_is_refused_here(run: Run, server: FakeServer) -> None:
    """Guards the piped path: bytes of another encoding are said, and the next line is answered."""
    result = run("chat", "--url", server.url, stdin=b"caf\xe9\n/system caf\xe9\nhi\n")
    assert len(errors_of(result)) == 2
    assert all("UTF-8" in error and "/reset" not in error for error in errors_of(result))
    assert stdout_of(result) == "Hello.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("give MODEL", "--url")),
        (("--url", "127.0.0.1:8000"), ("give http://HOST:PORT",)),
        (("--url", "http://[::1"), ("correct it",)),
        (("--url", "http://a", "--api-key", "caf\u00e9"), ("API key",)),
        (("--url", "http://a", "--dtype", "float32"), ("--dtype", "--url")),
        (
            ("--url", "http://a", "--skip-ratio", "0.3", "--threads", "2", "--copy-earlier-texts"),
            ("--threads, --skip-ratio, --copy-earlier-texts",),
        ),
    ],
)
def test_contradictions_end_the_program(
    run: Run, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Guards against options that are ignored, and against a chat with nobody."""
    result = run("chat", *arguments, stdin="hi\n")
    assert result.exit_code == 2
    assert [word for word in words if word not in result.stderr] == []


def test_torch_is_not_loaded() -> None:
    """Guards the start of a chat with a server, which takes no model's libraries."""
    code = """
import sys
from selfdraft.cli.app import app
try:
    app(["chat", "--url", "http://127.0.0.1:9"])
except SystemExit:
    print(sorted({"torch", "transformers"} & {*sys.modules}))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        input="/help\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "[]\n"
