"""A server with the API that the page talks to, whose answers are written down: nothing is random.

An answer is a list of steps: pieces of text with the sources of their tokens, and things that
happen between them. A test that must look at half an answer puts a `GATE` there, opened later.
"""

import json
import mimetypes
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from source_tree import PACKAGE

PAGE = PACKAGE / "server" / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MODEL = "tiny-model"
NUM_LAYERS = 12
PATIENCE_SECONDS = 30.0

GATE = "wait until the test opens the gate"
BREAK = "close the connection in the middle"
FAIL = "send an error event, then end"
UNTIL_GONE = "send comments until the client has gone"

Piece = tuple[str, Sequence[str]]
Step = Piece | str
Body = dict[str, Any]


def story(body: Body) -> list[Step]:
    """An answer of every source; without a draft the same text, all of it by the target."""
    pieces: list[Piece] = [
        ("Once", ["target"]),
        (" upon", ["model"]),
        (" a", ["model"]),
        (" time", ["target"]),
        ("\nonce", ["text"]),
        (" more", ["earlier"]),
        (" and", ["recycled"]),
        (" again.", ["target"]),
        ("", ["target"]),
    ]
    if body["draft"] == "off":
        return [(text, ["target"] * len(sources)) for text, sources in pieces]
    return list(pieces)


def draft_state(
    attention: Sequence[int] = (), mlp: Sequence[int] = (), num_layers: int = NUM_LAYERS
) -> Body:
    """What GET /v1/draft answers, with a plan that skips these layers."""
    ends = [0, num_layers - 1]
    return {
        "model": MODEL,
        "draft": "auto",
        "plan": {"attention": list(attention), "mlp": list(mlp), "weight_bits": 4},
        "num_layers": num_layers,
        "fixed": {"attention": ends, "mlp": ends},
        "search": {
            "state": "searching",
            "num_proposals": 17,
            "num_starts": 1,
            "time_share": 0.05,
        },
        "vanilla_tokens_per_second": 12.5,
        "num_running": 0,
        "num_waiting": 0,
    }


@dataclass
class Refusal:
    """An answer that is none: its status, the message, and headers."""

    status: int
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeBackEnd:
    """What the server answers, and what it was asked. Tests change it while the server runs."""

    answer: Callable[[Body], Sequence[Step]] = story
    rates: dict[str, float] = field(default_factory=lambda: {"auto": 40.0, "off": 10.0})
    draft: Body = field(default_factory=lambda: draft_state([2, 5], [7]))
    key: str | None = None
    refusals: deque[Refusal] = field(default_factory=deque)
    """Given to the next chat completions, in this order."""
    bodies: list[Body] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    has_client_gone: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def serving(back_end: FakeBackEnd) -> Iterator[None]:
    """Serve it on a free port of loopback, which `back_end.url` names."""
    handler = type("Handler", (_Handler,), {"back_end": back_end})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        back_end.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            back_end.gate.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    back_end: FakeBackEnd

    def do_GET(self) -> None:
        name = "index.html" if self.path == "/" else self.path.removeprefix("/page/")
        if self.path in {"/v1/draft", "/v1/models"}:
            self._get_json()
        elif name in {path.name for path in PAGE.iterdir()}:
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            self._send(200, (PAGE / name).read_bytes(), kind)
        else:
            self._send_error(Refusal(404, f"there is no {self.path}"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._lacks_key():
            return
        if self.back_end.refusals:
            self._send_error(self.back_end.refusals.popleft())
            return
        self.back_end.bodies.append(body)
        try:
            self._stream(body)
        except OSError:
            self.back_end.has_client_gone.set()

    def _get_json(self) -> None:
        if self._lacks_key():
            return
        if self.path == "/v1/draft":
            self._send_json(200, self.back_end.draft)
        else:
            self._send_json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def _lacks_key(self) -> bool:
        key = self.back_end.key
        lacks = key is not None and self.headers.get("Authorization") != f"Bearer {key}"
        if lacks:
            self._send_error(Refusal(401, "the API key is missing or wrong"))
        return lacks

    def _stream(self, body: Body) -> None:
        self._start(200, "text/event-stream", {"Transfer-Encoding": "chunked"})
        sent: list[str] = []
        for step in self.back_end.answer(body):
            if isinstance(step, tuple):
                sent.extend(step[1])
                self._event(_chunk(step))
            elif step == GATE:
                self.back_end.gate.wait(PATIENCE_SECONDS)
            elif step == BREAK:
                return
            elif step == FAIL:
                self._event({"error": {"message": "the model ran out of memory", "type": "x"}})
                self._end()
                return
            elif step == UNTIL_GONE:
                while True:
                    self._write(": beat\n\n")
                    threading.Event().wait(0.01)
        self._event(_chunk(("", []), finish_reason="stop"))
        self._event(_last_chunk(sent, self.back_end.rates[body["draft"]]))
        self._end()

    def _end(self) -> None:
        self._write("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, document: Body) -> None:
        self._write(f"data: {json.dumps(document)}\n\n")

    def _write(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send_error(self, refusal: Refusal) -> None:
        error = {"message": refusal.message, "type": "x", "param": refusal.param, "code": None}
        self._send_json(refusal.status, {"error": error}, refusal.headers)

    def _send_json(
        self, status: int, document: Body, headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, json.dumps(document).encode(), "application/json", headers)

    def _send(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self._start(status, kind, {"Content-Length": str(len(data))} | (headers or {}))
        self.wfile.write(data)

    def _start(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self.close_connection = True
        self.send_response(status)
        fixed = {"Content-Type": kind, "Connection": "close", "Content-Security-Policy": POLICY}
        for name, value in (fixed | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests look at `back_end`."""


def _chunk(piece: Piece, finish_reason: str | None = None) -> Body:
    text, sources = piece
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}],
        "sources": [{"token_id": 7, "source": source} for source in sources],
    }


def _last_chunk(sources: Sequence[str], rate: float) -> Body:
    num_rounds = sources.count("target")
    num_accepted = len(sources) - num_rounds
    drafts = {
        "num_drafts": num_rounds if num_accepted else 0,
        "num_draft_tokens": 2 * num_accepted,
        "num_accepted_tokens": num_accepted,
        "draft_acceptance_rate": 0.5 if num_accepted else 0.0,
        "mean_acceptance_length": len(sources) / num_rounds if num_accepted else 1.0,
        "acceptance_per_position": [0.5] if num_accepted else [],
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": len(sources),
            "total_tokens": 5 + len(sources),
        },
        "metrics": {
            "time_to_first_token_seconds": 0.12,
            "queue_seconds": 0.0,
            "prefill_seconds": 0.1,
            "decode_seconds": len(sources) / rate,
            "tokens_per_second": rate,
            "speculative_decoding": drafts,
        },
    }
