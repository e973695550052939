"""The routes that tell of the server itself."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from selfdraft.server import errors
from selfdraft.server.backend import Backend, BackendDep
from selfdraft.server.draft_report import draft_report

router = APIRouter()


@router.get("/health")
async def health(backend: BackendDep) -> dict[str, str]:
    """200 as long as the process can come to serve; 503 if it has to be restarted."""
    if backend.service.state == "dead":
        raise errors.unavailable("the worker has failed: restart the server", code="dead")
    return {"status": "ok"}


@router.get("/ready")
async def ready(backend: BackendDep) -> dict[str, str]:
    """200 while requests are taken: the model is loaded, and the server not about to end."""
    backend.service.require_ready()
    return {"status": "ready"}


@router.get("/version")
async def get_version() -> dict[str, str]:
    """The version of selfdraft."""
    return {"version": version("selfdraft")}


@router.get("/metrics")
async def metrics(backend: BackendDep) -> Response:
    """For Prometheus."""
    content = await run_in_threadpool(backend.metrics.exposition)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/v1/models")
async def models(backend: BackendDep) -> dict[str, Any]:
    """The one model that is served."""
    return {"object": "list", "data": [_model(backend)]}


@router.get("/v1/models/{name:path}")
async def model(name: str, backend: BackendDep) -> dict[str, Any]:
    """The model by its name."""
    found = _model(backend)
    backend.require_model(name)
    return found


@router.get("/v1/draft")
async def draft(backend: BackendDep) -> dict[str, Any]:
    """What drafts at the moment, and how the search for it goes."""
    engine, settings = backend.preparer.engine, backend.settings
    report = await run_in_threadpool(draft_report, engine, settings.draft)
    return {
        "model": settings.served_model_name,
        **report,
        "num_running": backend.service.num_running,
        "num_waiting": backend.service.num_waiting,
    }


def _model(backend: Backend) -> dict[str, Any]:
    preparer = backend.preparer
    return {
        "id": backend.settings.served_model_name,
        "object": "model",
        "created": backend.created,
        "owned_by": "selfdraft",
        "max_model_len": preparer.max_model_len,
    }
