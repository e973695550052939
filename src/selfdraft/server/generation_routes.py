"""The routes that write text."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from selfdraft.server.answer_shape import AnswerShape
from selfdraft.server.answering import answer
from selfdraft.server.backend import Backend, BackendDep
from selfdraft.server.chat import ChatShape
from selfdraft.server.completions import CompletionShape
from selfdraft.server.job import Ask
from selfdraft.server.protocol import ChatBody, CompletionBody, GenerationBody
from selfdraft.server.record import record_of
from selfdraft.server.strict_json import StrictJsonRoute
from selfdraft.server.token_texts import TokenTexts

Body = TypeVar("Body", bound=GenerationBody)

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
    prompt = [message.for_template() for message in body.messages]
    return await _answer(body, prompt, request, backend, backend.preparer.chat, ChatShape)


@router.post("/v1/completions", responses=_ANSWERS)
async def completions(body: CompletionBody, request: Request, backend: BackendDep) -> Response:
    """What follows a prompt, or each of several."""
    prepare = backend.preparer.completion
    return await _answer(body, body.prompt, request, backend, prepare, CompletionShape)


async def _answer(
    body: Body,
    prompt: object,
    request: Request,
    backend: Backend,
    prepare: Callable[[Body], list[Ask]],
    new_shape: Callable[[Body, str, int, TokenTexts], AnswerShape],
) -> Response:
    """Check the request, encode it, and let it take its turn."""
    backend.require_model(body.model)
    backend.service.require_room()
    record = record_of(request)
    if backend.settings.log_prompts:
        record.prompt = prompt
    asks = await run_in_threadpool(prepare, body)
    job = backend.new_job(record.request_id, asks, body.n or 1)
    shape = new_shape(body, backend.settings.served_model_name, len(asks), backend.tokens)
    return await answer(request, backend.service, job, shape, is_stream=bool(body.stream))
