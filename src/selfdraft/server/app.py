"""The application: what `selfdraft serve` runs, and what any ASGI server can."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from selfdraft.engine import Engine
from selfdraft.server import (
    errors,
    generation_routes,
    page_routes,
    status_routes,
    token_routes,
)
from selfdraft.server.backend import Backend
from selfdraft.server.middleware import BodyLimit, KeyCheck, RequestLog
from selfdraft.server.settings import ServerSettings

# What needs the key. The page, which asks for it, and what machines watch do not.
_GUARDED = ("/v1/", "/tokenize", "/detokenize")

# A worker that is deep in a round is not waited for any longer: its thread ends with the process.
_JOIN_SECONDS = 0.5


def create_app(settings: ServerSettings, *, load_engine: Callable[[], Engine]) -> FastAPI:
    """An application that answers at once, and loads the model in its worker thread meanwhile."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        backend = app.state.backend
        if backend.service.has_started:  # a test client lets an application live several times
            backend = app.state.backend = Backend(settings, load_engine)
        backend.service.start()
        try:
            yield
        finally:
            backend.service.abort()
            await run_in_threadpool(backend.service.join, _JOIN_SECONDS)

    app = FastAPI(
        title="selfdraft",
        description="One model that drafts for itself, behind OpenAI's API.",
        version=version("selfdraft"),
        lifespan=lifespan,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={
            "4XX": {"model": errors.ErrorEnvelope, "description": "The request is wrong."},
            "5XX": {"model": errors.ErrorEnvelope, "description": "The server cannot answer."},
        },
    )
    app.state.backend = Backend(settings, load_engine)
    errors.install(app)
    for part in (generation_routes, token_routes, status_routes, page_routes):
        app.include_router(part.router)
    _surround(app, settings)
    return app


def _surround(app: FastAPI, settings: ServerSettings) -> None:
    """Add the middleware, the innermost first."""
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    if settings.api_key is not None:
        app.add_middleware(KeyCheck, api_key=settings.api_key, prefixes=_GUARDED)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
        )
    app.add_middleware(RequestLog)
