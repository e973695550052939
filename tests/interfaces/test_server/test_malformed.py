"""Requests that no client should send: each is refused in OpenAI's words, and nothing breaks."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from malformed_values import CHAT, COMPLETIONS, EXTENDED, FIELDS, GOOD
from tiny_server import MAX_BODY_BYTES, MAX_MODEL_LEN, NAME, tiny_server

PATHS = pytest.mark.parametrize("path", GOOD)
LONE = "\\ud800"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with tiny_server() as client:
        yield client


@pytest.fixture(autouse=True)
def _still_answers(client: httpx2.Client) -> Iterator[None]:
    """After every test the server does what it did before."""
    yield
    assert client.get("/health").status_code == 200
    for path, body in GOOD.items():
        assert client.post(path, json=body).status_code == 200


def post(client: httpx2.Client, path: str, content: Any, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=content, headers={"Content-Type": "application/json"} | named)


def assert_refused(response: httpx2.Response, param: str | None = None) -> dict[str, Any]:
    """A 4xx in OpenAI's shape; it names the field if there is one to name."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:500])
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    if param is not None:
        assert str(error["param"]).split(".")[0].split("[")[0] == param, error
    return dict(error)


def test_a_wrong_value_of_any_field_is_named(client: httpx2.Client) -> None:
    """Guards against a value that is converted in silence, and one that breaks the server."""
    for path, field, value in FIELDS:
        content = json.dumps(GOOD[path] | {field: value})
        response = post(client, path, content)
        assert response.status_code in (400, 404, 422), (path, field, value, response.text[:300])
        is_too_long = response.json()["error"]["code"] == "context_length_exceeded"
        assert_refused(response, None if is_too_long else field)


def test_a_missing_field_is_named(client: httpx2.Client) -> None:
    """Guards against a default for what nobody can guess."""
    for path, needed in ((CHAT, "messages"), (COMPLETIONS, "prompt")):
        body = {name: value for name, value in GOOD[path].items() if name != needed}
        assert_refused(post(client, path, json.dumps(body)), needed)


@PATHS
@pytest.mark.parametrize(
    "field", ["max_new_tokens", "Temperature", "", "__class__", "\u0000", "模"]
)
def test_an_unknown_field_is_named(client: httpx2.Client, path: str, field: str) -> None:
    """Guards against options that are ignored: the client would believe that they work."""
    error = assert_refused(post(client, path, json.dumps(GOOD[path] | {field: 1})))
    assert error["param"] == field


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{'model': 'tiny'}",
        b'{"model": "tiny",}',
        b'{"model": }',
        b"\xff\xfe\x00",
        b'{"model": "\xff"}',
        b'{"model": "tiny", "prompt": "\xed\xa0\x80"}',
        b'{"model": "tiny", "prompt": "\x00"}',
        b"\x00" * 100,
        b"model=tiny&prompt=hi",
    ],
)
@pytest.mark.parametrize("path", [*GOOD, "/tokenize", "/detokenize"])
def test_what_is_no_json_object_is_refused(
    client: httpx2.Client, path: str, content: bytes
) -> None:
    """Guards against a parser's error that becomes a 500."""
    assert_refused(post(client, path, content))


@PATHS
@pytest.mark.parametrize(
    "addition",
    [
        '"temperature": NaN',
        '"temperature": Infinity',
        '"top_p": -Infinity',
        '"temperature": 1e999',
        '"seed": 1e999',
        '"logit_bias": {"1": NaN}',
        f'"seed": {"9" * 5000}',
        '"temperature": 0, "temperature": 1',
        '"stream_options": {"include_usage": true, "include_usage": false}',
        f'"user": "{LONE}"',
        f'"stop": "{LONE}"',
        f'"stop": ["a", "{LONE}"]',
        f'"grammar": "{LONE}"',
        f'"{LONE}": 1',
        f'"response_format": {{"type": "{LONE}"}}',
        f'"response_format": {{"type": "json_schema", "json_schema": {{"name": "x", "schema": '
        f'{{"type": "string", "enum": ["{LONE}"]}}}}}}',
    ],
)
def test_what_json_cannot_say_is_refused(client: httpx2.Client, path: str, addition: str) -> None:
    """Guards against NaN, infinity, half characters and a key that is there twice."""
    start = json.dumps(GOOD[path]).removesuffix("}")
    assert_refused(post(client, path, f"{start}, {addition}}}"))


def test_half_characters_in_texts_are_refused(client: httpx2.Client) -> None:
    """Guards against a lone surrogate that reaches the tokenizer."""
    for path in GOOD:
        for field, text in (("messages", "hi"), ("prompt", "hi"), ("model", NAME)):
            if field in GOOD[path]:
                content = json.dumps(GOOD[path]).replace(f'"{text}"', f'"{text}{LONE}"')
                assert_refused(post(client, path, content))
    role = json.dumps(GOOD[CHAT]).replace('"user"', f'"{LONE}"')
    assert_refused(post(client, CHAT, role))
    assert_refused(post(client, "/tokenize", f'{{"prompt": "{LONE}"}}'))


@PATHS
@pytest.mark.parametrize(
    "opening", ["[", '{"a":', '{"messages": [', '{"response_format": {"schema": ']
)
def test_deep_nesting_is_refused(client: httpx2.Client, path: str, opening: str) -> None:
    """Guards the parser's stack."""
    depth = MAX_BODY_BYTES // len(opening) - 100
    assert_refused(post(client, path, opening * depth))


def test_a_deep_schema_is_refused_or_used(client: httpx2.Client) -> None:
    """Guards the compiler of grammars against schemas that are small and deep."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(150):
        schema = {"type": "array", "items": schema, "minItems": 1}
    shape = {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}
    response = post(client, CHAT, json.dumps(GOOD[CHAT] | {"response_format": shape}))
    assert response.status_code == 200 or assert_refused(response, "response_format")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
def test_another_content_type_is_refused(client: httpx2.Client, content_type: str) -> None:
    """Guards against forms of other sites, which a browser sends without asking."""
    for path, body in GOOD.items():
        response = post(client, path, json.dumps(body), Content_Type=content_type)
        assert_refused(response)


def test_a_body_in_another_encoding_breaks_nothing(client: httpx2.Client) -> None:
    """Guards against bytes that one JSON parser takes and another does not."""
    text = json.dumps(GOOD[CHAT])
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        response = post(client, CHAT, text.encode(encoding))
        assert response.status_code == 200 or assert_refused(response)


@PATHS
def test_a_huge_body_is_refused(client: httpx2.Client, path: str) -> None:
    """Guards memory, whether the length is announced or not."""
    huge = b" " * (MAX_BODY_BYTES + 1)
    assert post(client, path, huge).status_code == 413
    pieces = (b" " * 10_000 for _ in range(MAX_BODY_BYTES // 10_000 + 5))
    response = post(client, path, pieces)
    assert response.status_code == 413
    assert_refused(response)


@pytest.mark.parametrize("length", [str(10**12), "9" * 30, "-1", "x"])
def test_a_wrong_length_breaks_nothing(client: httpx2.Client, length: str) -> None:
    """Guards against a server that waits for ever for a body that does not come."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    status = raw_status(client, head.encode())
    assert status is None or 400 <= status < 500


@pytest.mark.parametrize("lines", [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00" * 20, b"\r\n" * 50])
def test_what_is_no_http_breaks_nothing(client: httpx2.Client, lines: bytes) -> None:
    """Guards against strangers, such as a TLS handshake, that knock at the port."""
    status = raw_status(client, lines + b"\r\n\r\n")
    assert status is None or 400 <= status < 500


def raw_status(client: httpx2.Client, content: bytes) -> int | None:
    """The status that bytes on the wire get; None if the connection is closed without one."""
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(200)
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.") else None


def test_a_prompt_that_does_not_fit_is_refused(client: httpx2.Client) -> None:
    """Guards the context limit: the message says it, and nothing is cut in silence."""
    long = "x" * (MAX_MODEL_LEN + 1)
    messages = [{"role": "user", "content": long}]
    assert_refused(post(client, COMPLETIONS, json.dumps(GOOD[COMPLETIONS] | {"prompt": long})))
    assert_refused(post(client, CHAT, json.dumps(GOOD[CHAT] | {"messages": messages})))


def test_tokens_and_texts_are_checked_too(client: httpx2.Client) -> None:
    """Guards the small endpoints, which are as open as the large ones."""
    for path, body in EXTENDED:
        assert_refused(post(client, path, json.dumps(body)))


def test_another_method_and_another_path_are_refused(client: httpx2.Client) -> None:
    """Guards the shape of errors that the framework answers by itself."""
    assert client.get(CHAT).status_code == 405
    assert_refused(client.get(CHAT))
    assert client.get("/v1/embeddings").status_code == 404
    assert_refused(client.get("/v1/embeddings"))
    for path in ("/page/../settings.py", "/page/%2e%2e/settings.py", "/page/..%2fapp.py"):
        assert client.get(path).status_code == 404
