"""The routes that write text."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from selfdraft.server.answering import answer
from selfdraft.server.backend import BackendDep
from selfdraft.server.chat import ChatShape
from selfdraft.server.completions import CompletionShape
from selfdraft.server.protocol import ChatBody, CompletionBody
from selfdraft.server.record import record_of
from selfdraft.server.strict_json import StrictJsonRoute

router = APIRouter(route_class=StrictJsonRoute)

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream` a stream of events.",
        "content": {"text/event-stream": {}},
    }
}


@router.post("/v1/chat/completions", responses=_ANSWERS)
async def chat_completions(body: ChatBody, request: Request, backend: BackendDep) -> Response:
    """The assistant's next message in a conversation."""
    preparer = backend.preparer
    backend.require_model(body.model)
    backend.service.require_room()
    record = record_of(request)
    if backend.settings.log_prompts:
        record.prompt = [message.for_template() for message in body.messages]
    asks = await run_in_threadpool(preparer.chat, body)
    job = backend.new_job(record.request_id, asks, body.n or 1)
    shape = ChatShape(body, backend.settings.served_model_name, len(asks), backend.tokens)
    return await answer(request, backend.service, job, shape, is_stream=bool(body.stream))


@router.post("/v1/completions", responses=_ANSWERS)
async def completions(body: CompletionBody, request: Request, backend: BackendDep) -> Response:
    """What follows a prompt, or each of several."""
    preparer = backend.preparer
    backend.require_model(body.model)
    backend.service.require_room()
    record = record_of(request)
    if backend.settings.log_prompts:
        record.prompt = body.prompt
    asks = await run_in_threadpool(preparer.completion, body)
    job = backend.new_job(record.request_id, asks, body.n or 1)
    shape = CompletionShape(body, backend.settings.served_model_name, len(asks), backend.tokens)
    return await answer(request, backend.service, job, shape, is_stream=bool(body.stream))
