"""uvicorn, told to end as this server should: what runs is finished or ended cleanly first."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from threading import Timer
from time import perf_counter
from types import FrameType

import uvicorn
from fastapi import FastAPI

from selfdraft.errors import ConfigError
from selfdraft.server.backend import Backend

# How long connections may take to send what is written, once nothing runs any more.
_FLUSH_SECONDS = 1

# By then the process is gone, whatever it is stuck in: this long after the requests' own deadline.
_LAST_SECONDS = 1.6

_TICK_SECONDS = 0.02


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, before a model is loaded for nothing.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        # Without the protocol asyncio does not see TCP, and leaves Nagle's algorithm on: every
        # second answer on a connection would wait 40 ms for the client's acknowledgement.
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"host is {host!r}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror or error}. Give another --port; "
            "0 takes a free one"
        ) from error
    listener.setblocking(False)
    return listener


class DrainingServer(uvicorn.Server):
    """Serves one application until it is told to end by SIGTERM or SIGINT, or its model fails."""

    def __init__(
        self,
        app: FastAPI,
        *,
        on_ready: Callable[[], None] = lambda: None,
        must_exit: bool = False,
    ) -> None:
        """`must_exit` is for a process that is this server: it ends with it, in time."""
        backend = app.state.backend
        assert isinstance(backend, Backend)
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_FLUSH_SECONDS,
            )
        )
        self._service = backend.service
        self._seconds = backend.settings.shutdown_seconds
        self._on_ready = on_ready
        self._must_exit = must_exit
        self._was_ready = False

    @property
    def failure(self) -> Exception | None:
        """What kept the model from loading."""
        return self._service.failure

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second one does not wait.

        uvicorn would also raise it again at the end, so that the process died of it.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: say when the model is loaded, or end when it cannot be."""
        if self._service.failure is not None:
            self.should_exit = True
        if self._service.state == "ready" and not self._was_ready:
            self._was_ready = True
            self._on_ready()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end in their time; meanwhile new ones are told to go elsewhere."""
        if self._must_exit and self.failure is None:
            timer = Timer(self._seconds + _LAST_SECONDS, os._exit, (0,))
            timer.daemon = True
            timer.start()
        self._service.begin_shutdown()
        deadline = perf_counter() + self._seconds
        while self._service.num_running and perf_counter() < deadline and not self.force_exit:
            await asyncio.sleep(_TICK_SECONDS)
        self._service.abort()
        self.force_exit = False  # uvicorn would cut what now ends by itself, and skip the lifespan
        await super().shutdown(sockets)

    def serve_on(self, listener: socket.socket) -> None:
        """Run until the server is told to end. Raises what kept the model from loading."""
        with closing(listener):
            self.run(sockets=[listener])
        if self._service.failure is not None:
            raise self._service.failure
        if self._must_exit:
            # The interpreter's own end takes seconds with a model in memory, and a worker that is
            # deep in a round would crash under it.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
