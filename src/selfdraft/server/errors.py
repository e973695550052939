"""Every error that the server answers with, in OpenAI's shape."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

RETRY_SECONDS = 1
"""What `Retry-After` says: how soon it is worth asking again is not known, only that it may be."""

CLIENT_CLOSED = 499
"""The status of an answer that nobody read, as nginx logs it."""

_MAX_DEPTH = 12
"""Parts of a field's name that are told."""


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorBody


class ApiError(Exception):
    """An error that the client is told of: a status, and OpenAI's fields."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _encodable(message)
        self.code = code
        self.param = None if param is None else _encodable(param)
        self.type = type
        self.headers = dict(headers or {})

    def as_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.as_dict(), status_code=self.status, headers=self.headers)


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """The client asked for what cannot be."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def too_long(message: str, *, param: str) -> ApiError:
    """Prompt and output do not fit the context."""
    return invalid(message, param=param, code="context_length_exceeded")


def wrong_key() -> ApiError:
    """No key, or another one."""
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        "the API key is missing or wrong: send `Authorization: Bearer KEY`",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def unknown_model(name: str, served: str) -> ApiError:
    """The server has one model, and it is not this one."""
    return ApiError(
        HTTPStatus.NOT_FOUND,
        f"there is no model {name!r} here: ask for {served!r}",
        param="model",
        code="model_not_found",
    )


def too_large(max_bytes: int) -> ApiError:
    """The body is over the limit."""
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {max_bytes:,} bytes, which is all that this server reads",
        code="request_too_large",
    )


def queue_full(num_waiting: int) -> ApiError:
    """The error of a full queue: as many requests wait as may."""
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"{num_waiting} requests wait already, which is all that may: try again later",
        type="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


def unavailable(message: str, *, code: str) -> ApiError:
    """The server cannot answer now: it loads, ends, or lost its worker."""
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        message,
        type="server_error",
        code=code,
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


def shutting_down() -> ApiError:
    """The server was told to end."""
    return unavailable("the server is shutting down", code="shutting_down")


def client_left() -> ApiError:
    """Nobody reads this one; it ends a request like any other error."""
    return ApiError(CLIENT_CLOSED, "the client has left", code="client_left")


def internal() -> ApiError:
    """A fault of ours, whose details are in the log and nowhere else."""
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "the server failed to answer this request; its log says why",
        type="server_error",
        code="internal_error",
    )


class BodyError(HTTPException):
    """A body that is JSON and still cannot be read; FastAPI lets these through."""

    def __init__(self, message: str, *, param: str | None) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, message)
        self.param = param


def field_name(path: Sequence[str | int]) -> str:
    """The place in a body as OpenAI writes it: `messages[0].content`."""
    name = ""
    for part in path[:_MAX_DEPTH]:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            name += f".{part}" if name else part
    return name


def install(app: FastAPI) -> None:
    """Let `app` answer every error in this shape."""

    async def api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error.response()

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _from_http(request, error).response()

    async def body_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _from_validation(error).response()

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, body_error)


_CODES = {404: "unknown_url", 405: "method_not_allowed"}


def _from_http(request: Request, error: HTTPException) -> ApiError:
    if isinstance(error, BodyError):
        return invalid(error.detail, param=error.param, code="invalid_json")
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"there is no {request.url.path!r} here"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{request.method} is not allowed for {request.url.path!r}"
    else:
        message = str(error.detail)
    code = _CODES.get(error.status_code, "invalid_request")
    return ApiError(error.status_code, message, code=code, headers=error.headers)


def _from_validation(error: RequestValidationError) -> ApiError:
    """What is wrong with the body, by the field it is wrong with."""
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        reason = found[0].get("ctx", {}).get("error", found[0]["msg"])
        return invalid(f"the body is not JSON: {reason}", code="invalid_json")
    if found[0]["loc"][:1] != ("body",) or len(found[0]["loc"]) == 1:
        return invalid("the body is not a JSON object: send one, as application/json")
    worst = _most_specific(found, error.body)
    param = field_name(_path(worst, error.body))
    if worst["type"] == "extra_forbidden":
        return invalid(f"{param} is not supported", param=param, code="unknown_parameter")
    if worst["type"] == "none_required" or worst.get("ctx", {}).get("max_length") == 0:
        message = f"{param} is not supported: leave it out"
        return invalid(message, param=param, code="unsupported_value")
    if worst["type"] == "missing":
        return invalid(f"{param} is missing", param=param, code="missing_required_parameter")
    return invalid(f"{param}: {worst['msg']}", param=param)


def _most_specific(found: Sequence[Any], body: object) -> Any:
    """The deepest of the errors of the first field that is wrong.

    For a union, pydantic tells why it is none of its kinds; the kind that was meant got furthest.
    """
    own = [error for error in found if error["loc"][:2] == found[0]["loc"][:2]]
    return max(own, key=lambda e: (len(_path(e, body)), not e["type"].endswith("_type")))


def _path(error: Any, body: object) -> list[str | int]:
    """Where in the body the error is.

    Pydantic's location also names the kinds of a union that it tried, which are in no body.
    """
    location: Sequence[str | int] = error["loc"][1:]
    path: list[str | int] = []
    value = body
    for index, part in enumerate(location):
        is_lacking = error["type"] == "missing" and index == len(location) - 1
        if isinstance(value, dict) and isinstance(part, str) and (part in value or is_lacking):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return path or [location[0]]


def _encodable(text: str) -> str:
    r"""`text` as it can be sent: JSON may hold half a character, `"\ud800"`, which UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
