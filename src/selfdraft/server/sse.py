"""Server-sent events, and readers who leave before the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"

STALLED_SECONDS = 60.0
"""A client that takes nothing for so long has left, whatever its connection says.

What is written and not yet taken stays in memory.
"""


class DisconnectedError(Exception):
    """The client has left."""


def encode_events(documents: Iterable[Mapping[str, Any]]) -> bytes:
    """The documents as events, in one piece: what one round wrote is one write to the socket."""
    return b"".join(
        b"data: " + json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n\n"
        for document in documents
    )


async def unless_disconnected(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of `work`, which is cancelled if the client leaves.

    Raises:
        DisconnectedError: it has left.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise DisconnectedError
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


class EventStream(Response):
    """A response that is written while it comes to be.

    Starlette's own notices that a client has left only when it next writes, and a request may wait
    for long.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        *,
        on_disconnect: Callable[[], None],
        on_end: Callable[[], None],
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        """`on_end` is called on every way out, `on_disconnect` before it where that was the way."""
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._parts = parts
        self._on_disconnect = on_disconnect
        self._on_end = on_end
        self._stalled_seconds = stalled_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the parts as they come."""
        try:
            await unless_disconnected(self._write(send), receive)
        except (DisconnectedError, OSError):  # TimeoutError is one
            self._on_disconnect()
        finally:
            self._on_end()

    async def _write(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for part in self._parts:
            async with asyncio.timeout(self._stalled_seconds):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
