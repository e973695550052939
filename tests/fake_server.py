"""A server of chat completions on loopback that answers what a test told it to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = "/v1/models"
DRAFT = "/v1/draft"
CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    """What one request gets."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    then: Callable[[], None] | None = None
    """Called behind the body; the connection then stays open until the client closes it."""


@dataclass
class Received:
    """What one request was."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeServer:
    """The replies for each path, taken one after the other; the last one stays."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[Received] = []
        self.client_left = threading.Event()
        self._replies: dict[str, list[Reply]] = {MODELS: [as_json({"data": [{"id": "served"}]})]}

    def will_reply(self, path: str, *replies: Reply) -> None:
        self._replies[path] = list(replies)

    def reply(self, path: str) -> Reply:
        replies = self._replies.get(path, [Reply("no such page", status=404)])
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [received.body for received in self.received if received.path == path]


def as_json(document: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(document), status, {"Content-Type": "application/json", **named})


def refusal(status: int, message: str, param: str | None = None, **headers: str) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return as_json({"error": error}, status, **headers)


def events(*documents: object, is_whole: bool = True) -> Reply:
    """A stream of events, with its last one if it is whole."""
    lines = [json.dumps(document) for document in documents] + ["[DONE]"] * is_whole
    body = "".join(f"data: {line}\n\n" for line in lines)
    return Reply(body, headers={"Content-Type": "text/event-stream; charset=utf-8"})


def chunk(text: str, finish_reason: str | None = None, num_tokens: int = 1) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    sources = [{"token_id": 7, "source": "target"}] * num_tokens
    return {"choices": [choice], "usage": None, "sources": sources}


def answer(
    *texts: str, finish_reason: str = "stop", metrics: dict[str, object] | None = None
) -> Reply:
    """A whole answer in pieces, each of one token."""
    usage = {"prompt_tokens": 12, "completion_tokens": len(texts), "total_tokens": 12 + len(texts)}
    return events(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        *map(chunk, texts),
        chunk("", finish_reason, num_tokens=0),
        {"choices": [], "usage": usage, "metrics": metrics or {}},
    )


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """A running server, for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            fake.received.append(Received(self.path, dict(self.headers), body))
            reply = fake.reply(self.path)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body.encode())
            if reply.then is not None:
                reply.then()
                if self._sees_the_client_leave():
                    fake.client_left.set()

        def _sees_the_client_leave(self) -> bool:
            """A client that closes with something unread leaves by a reset."""
            self.connection.settimeout(30)
            try:
                return self.rfile.read(1) == b""
            except ConnectionResetError:
                return True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
