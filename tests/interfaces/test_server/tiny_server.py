"""A server with a tiny random model, in a thread of this process: quick, and really over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from tiny_models import text_engine

from selfdraft.bench.serve_overhead import serving
from selfdraft.server.settings import ServerSettings

NAME = "tiny"
MAX_BODY_BYTES = 100_000
MAX_MODEL_LEN = 96
SETTINGS = ServerSettings(
    served_model_name=NAME,
    draft="off",
    max_model_len=MAX_MODEL_LEN,
    max_body_bytes=MAX_BODY_BYTES,
)


@contextmanager
def tiny_server() -> Iterator[httpx2.Client]:
    """A client of a tiny server, which ends with the block."""
    with (
        serving(text_engine, SETTINGS) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
    ):
        yield client
