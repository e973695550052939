"""Streams of events whose reader takes nothing any more."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Message

from selfdraft.server.sse import EventStream


async def _parts() -> AsyncIterator[bytes]:
    while True:
        yield b"data: {}\n\n"


def test_a_reader_who_takes_nothing_has_left() -> None:
    """Guards memory: what a client does not read was kept for as long as it stayed connected."""
    calls: list[str] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("it stays connected")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    stream = EventStream(
        _parts(),
        on_disconnect=lambda: calls.append("left"),
        on_end=lambda: calls.append("ended"),
        stalled_seconds=0,
    )
    asyncio.run(stream({"type": "http"}, receive, send))
    assert calls == ["left", "ended"]
