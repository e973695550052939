"""Every error has OpenAI's shape, names what is wrong, and tells nothing of the inside."""

import copy
import json
from threading import Event, Thread
from typing import Any

import httpx2
import pytest
from server_runs import Gate, RunningServer, chat_body, gated_engine, serving
from tiny_models import text_engine, tiny_engine

from selfdraft import Engine

USER = {"role": "user", "content": "a"}


@pytest.fixture(scope="module")
def server() -> Any:
    with serving() as running:
        yield running


def error_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    document = response.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert document["error"]["message"]
    assert response.headers["x-request-id"]
    return document["error"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_new_tokens": 4}, "max_new_tokens"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"store": True}, "store"),
        ({"n": 9}, "n"),
        ({"n": "1"}, "n"),
        ({"n": True}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stop": {}}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 8, "max_completion_tokens": 9}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"draft": "fast"}, "draft"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"grammar": "x", "response_format": {"type": "json_object"}}, "grammar"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{**USER, "mood": 1}]}, "messages[0].mood"),
        ({"messages": [{**USER, "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{**USER, "content": "\ud800"}]}, "messages[0].content"),
        ({"messages": [{**USER, "\ud800": 1}]}, "messages[0].\\ud800"),
        ({"metadata": {"a": "\udfff"}}, "metadata"),
        ({"model": None}, "model"),
    ],
    ids=str,
)
def test_wrong_field_is_named(server: RunningServer, fields: dict[str, Any], param: str) -> None:
    """Guards against a field or value that is ignored, or refused without saying which."""
    body = json.dumps(chat_body(**fields)).encode()  # \\u escapes, as a careless client sends them
    headers = {"content-type": "application/json"}
    response = server.client.post("/v1/chat/completions", content=body, headers=headers)
    error = error_of(response, 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert param.split(".")[-1].split("[")[0] in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 8}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "a"}, "suffix"),
        ({"logprobs": 21}, "logprobs"),
        ({"messages": [USER]}, "messages"),
    ],
    ids=str,
)
def test_wrong_field_of_completions(
    server: RunningServer, fields: dict[str, Any], param: str
) -> None:
    """Guards against the same for completions."""
    assert error_of(server.complete(**fields), 400)["param"].startswith(param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "\xff"}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"seed": 1, "seed": 2}',
        b"[" * 100_000,
        b'{"a":' * 20_000,
    ],
    ids=lambda body: body[:12],
)
def test_body_that_is_no_object(server: RunningServer, body: bytes) -> None:
    """Guards against bytes that break the parser instead of being refused."""
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        headers = {"content-type": "application/json"}
        response = server.client.post(path, content=body, headers=headers)
        assert error_of(response, 400)["type"] == "invalid_request_error"


def test_body_of_another_type(server: RunningServer) -> None:
    """Guards against a web page of elsewhere that posts text/plain, which no preflight stops."""
    body = json.dumps(chat_body())
    response = server.client.post("/v1/chat/completions", content=body)
    assert "application/json" in error_of(response, 400)["message"]


def test_what_does_not_fit_the_context(server: RunningServer) -> None:
    """Guards against a prompt or a length that is quietly cut."""
    long = [{**USER, "content": "a" * 2000}]
    for fields in ({"messages": long}, {"max_tokens": 1024}, {"max_tokens": 10**30}):
        error = error_of(server.ask(**fields), 400)
        assert error["code"] == "context_length_exceeded"
    with serving(max_model_len=32) as small:
        assert error_of(small.ask(max_tokens=32), 400)["code"] == "context_length_exceeded"
        assert small.ask(max_tokens=8).status_code == 200


def test_unknown_model_and_unknown_routes(server: RunningServer) -> None:
    """Guards against answers of a model that was not asked for, and errors of another shape."""
    error = error_of(server.ask(model="gpt-4"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert error_of(server.client.get("/v1/models/gpt-4"), 404)["code"] == "model_not_found"
    for path in ("/v1/embeddings", "/v1/models/", "/nothing", "/page/..%2fapp.py", "/docs"):
        assert error_of(server.client.get(path), 404)["type"] == "invalid_request_error"
    error = error_of(server.client.get("/v1/chat/completions"), 405)
    assert error["code"] == "method_not_allowed"


def test_key() -> None:
    """Guards against a key that is not asked for somewhere, or asked for by the page itself."""
    with serving(api_key="se©ret") as server:
        client = server.client
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "se©ret".encode()},
            {"authorization": "Basic se©ret".encode()},
            {"authorization": b"Bearer"},
        ):
            for path in ("/v1/models", "/v1/draft", "/v1/nothing"):
                error = error_of(client.get(path, headers=headers), 401)
                assert error["code"] == "invalid_api_key"
            for path in ("/v1/chat/completions", "/tokenize", "/detokenize"):
                error_of(client.post(path, json=chat_body(), headers=headers), 401)
        right = {"authorization": "Bearer se©ret".encode()}
        assert client.get("/v1/models", headers=right).status_code == 200
        assert (
            client.post("/v1/chat/completions", json=chat_body(), headers=right).status_code == 200
        )
        assert client.get("/health").status_code == client.get("/metrics").status_code == 200


def test_body_over_the_limit() -> None:
    """Guards against a body that fills the memory, said how long or not."""
    with serving(max_body_bytes=1000) as server:
        post = server.client.post
        headers = {"content-type": "application/json"}
        body = b" " * 1001
        assert (
            error_of(post("/v1/completions", content=body, headers=headers), 413)["code"]
            == "request_too_large"
        )
        parts = (b" " * 500 for _ in range(100))  # chunked: nothing says how much will come
        error_of(post("/v1/completions", content=parts, headers=headers), 413)
        assert server.complete().status_code == 200


def test_full_queue() -> None:
    """Guards against requests that pile up without end."""
    gate = Gate()
    with serving(lambda: gated_engine(gate), max_running=1, max_queue=0) as server:
        first = Thread(target=server.ask)
        first.start()
        gate.await_round()
        refused = server.ask()
        error = error_of(refused, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        gate.open()
        first.join()
        assert server.ask().status_code == 200


def test_while_the_model_loads() -> None:
    """Guards against a server that is silent, or says it is ready, while it loads."""
    go = Event()

    def load() -> Engine:
        assert go.wait(30)
        return text_engine()

    with serving(load, is_awaited=False) as server:
        try:
            assert server.client.get("/health").status_code == 200
            for response in (server.client.get("/ready"), server.ask(), server.complete()):
                assert error_of(response, 503)["code"] == "loading"
                assert "retry-after" in response.headers
            assert server.client.get("/metrics").status_code == 200
        finally:
            go.set()


def test_failure_in_the_middle_is_hidden() -> None:
    """Guards against a fault of ours whose text is sent to the client, or ends the server."""
    engine = copy.copy(text_engine())
    engine.stream = lambda *args, **options: 1 / 0  # type: ignore[method-assign, assignment]
    with serving(lambda: engine) as server:
        for fields in ({}, {"stream": True}):
            error = error_of(server.ask(**fields), 500)
            assert error["type"] == "server_error"
            assert "division" not in error["message"]
        assert server.client.get("/health").status_code == 200


def test_engine_without_a_tokenizer() -> None:
    """Guards against a chat with a model that has no words, answered with a status of 500."""
    with serving(tiny_engine) as server:
        error_of(server.ask(), 400)
        error_of(server.complete(prompt="the"), 400)
        error_of(server.client.post("/detokenize", json={"tokens": [1]}), 400)
        answer = server.complete(prompt=[5, 9], logprobs=1).json()
        assert answer["choices"][0]["logprobs"]["tokens"][0].startswith("token_id:")


def test_request_ids(server: RunningServer) -> None:
    """Guards against an id that lets a client write into the log or the headers."""
    get = server.client.get
    assert get("/health", headers={"x-request-id": "a-1_b.c"}).headers["x-request-id"] == "a-1_b.c"
    for bad in ("a b", 'a"', "x" * 65, ""):
        given = get("/health", headers={"x-request-id": bad}).headers["x-request-id"]
        assert len(given) == 32
        assert given != bad


def test_other_origins_are_not_let_in_unless_asked(server: RunningServer) -> None:
    """Guards against any web page that talks to a server on its visitor's machine."""
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    answer = server.client.options("/v1/chat/completions", headers=headers)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers
    with serving(cors_origins=("https://a.example",), api_key="key") as open_server:
        answer = open_server.client.options("/v1/chat/completions", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        other = headers | {"origin": "https://b.example"}
        answer = open_server.client.options("/v1/chat/completions", headers=other)
        assert "access-control-allow-origin" not in answer.headers
