"""A submitted request becomes a response: a stream of events, or one document."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from selfdraft.server.answer_shape import AnswerShape
from selfdraft.server.errors import CLIENT_CLOSED, ApiError
from selfdraft.server.job import Ended, Job, Summary, Written
from selfdraft.server.record import RequestRecord, record_of
from selfdraft.server.service import Service
from selfdraft.server.sse import (
    DONE,
    DisconnectedError,
    EventStream,
    encode_events,
    unless_disconnected,
)


async def answer(
    request: Request, service: Service, job: Job, shape: AnswerShape, *, is_stream: bool
) -> Response:
    """Submit `job` and give what becomes of it.

    A stream begins with the job's first event, so that a failure before it has its status.

    Raises:
        ApiError: the job was refused, or failed before the response began.
    """
    record = record_of(request)
    record.num_prompt_tokens = job.num_prompt_tokens
    service.submit(job)
    is_handed_on = False
    try:
        if not is_stream:
            events, summary = await unless_disconnected(_all(job, record), request.receive)
            return JSONResponse(shape.whole(events, summary))
        first = await unless_disconnected(job.next_event(), request.receive)
        is_handed_on = True
        return EventStream(
            _parts(job, first, shape, record),
            on_disconnect=lambda: _note_disconnect(record),
            on_end=lambda: service.cancel(job),
        )
    except DisconnectedError:
        _note_disconnect(record)
        return Response(status_code=CLIENT_CLOSED)
    finally:
        if not is_handed_on:  # does nothing to a job that has ended
            service.cancel(job)


async def _all(job: Job, record: RequestRecord) -> tuple[list[Written], Summary]:
    written: list[Written] = []
    async for event in job.events():
        if isinstance(event, Ended):
            return written, event.summary
        _count(record, event)
        written.append(event)
    raise AssertionError("a job's last event is its end")


async def _parts(
    job: Job, first: Written | Ended, shape: AnswerShape, record: RequestRecord
) -> AsyncIterator[bytes]:
    """The events of a stream. A failure is one of them, and the last before the end."""
    event = first
    try:
        while not isinstance(event, Ended):
            _count(record, event)
            if chunks := shape.chunks(event):
                yield encode_events(chunks)
            event = await job.next_event()
    except ApiError as error:
        yield encode_events([error.as_dict()]) + DONE
        return
    yield encode_events(shape.last_chunks(event.summary)) + DONE


def _count(record: RequestRecord, event: Written) -> None:
    record.num_new_tokens += sum(len(shown.piece.token_ids) for shown in event.pieces)


def _note_disconnect(record: RequestRecord) -> None:
    record.is_disconnected = True
