"""What surrounds every request: its id and its line in the log, the key, the limit of its body.

Plain ASGI, so that streams pass through unbuffered.
"""

import hmac
import logging
import re
from collections.abc import Sequence
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfdraft.server import errors
from selfdraft.server.record import RequestRecord, attach

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Routes that are asked every few seconds by machines: their lines would hide the others.
_QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})

# Of a body that is too large so much is read and dropped: most clients read no answer before they
# have sent everything.
_MAX_DROPPED_BYTES = 64_000_000

_logger = logging.getLogger("selfdraft.server.access")


class RequestLog:
    """Gives each request an id and a line in the log. A fault behind it becomes a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid4().hex
        record = RequestRecord(request_id)
        attach(scope, record)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            _logger.exception("a request failed", extra={"request_id": request_id})
            if status is not None:  # the answer has begun: all that is left is to cut it
                raise
            await errors.internal().response()(scope, receive, send_with_id)
        finally:
            level = logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO
            _logger.log(level, "request", extra=record.as_dict(scope, status or 0))


class KeyCheck:
    """Refuses requests without the key, where a path begins with one of `prefixes`."""

    def __init__(self, app: ASGIApp, *, api_key: str, prefixes: Sequence[str]) -> None:
        self._app = app
        self._expected = f"Bearer {api_key}".encode()
        self._prefixes = tuple(prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith(self._prefixes):
            given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
            if not hmac.compare_digest(given, self._expected):
                await errors.wrong_key().response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Reads the body before anything else does, up to a limit; whoever lies about it is counted."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        num_bytes, is_complete = 0, False
        while not is_complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            part = message.get("body", b"")
            is_complete = not message.get("more_body", False)
            num_bytes += len(part)
            if num_bytes <= self._max_bytes:
                body += part
            elif num_bytes > self._max_bytes + _MAX_DROPPED_BYTES:
                break
        if num_bytes > self._max_bytes:
            await errors.too_large(self._max_bytes).response()(scope, receive, send)
            return
        await self._app(scope, _replay(bytes(body), receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, and then what follows."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
