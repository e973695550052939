"""What is logged about a request; gathered while it is answered."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.types import Scope


@dataclass(slots=True)
class RequestRecord:
    """One line of the log."""

    request_id: str
    num_prompt_tokens: int | None = None
    num_new_tokens: int = 0
    is_disconnected: bool = False
    prompt: object = None
    """Only where prompts are logged."""
    started: float = field(default_factory=perf_counter)

    def as_dict(self, scope: Scope, status: int) -> dict[str, Any]:
        """The line's fields. The route is its pattern, which names nothing of the request."""
        route = getattr(scope.get("route"), "path", None)
        line: dict[str, Any] = {
            "request_id": self.request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(perf_counter() - self.started, 6),
        }
        if self.num_prompt_tokens is not None:
            line["prompt_tokens"] = self.num_prompt_tokens
            line["completion_tokens"] = self.num_new_tokens
        if self.is_disconnected:
            line["disconnected"] = True
        if self.prompt is not None:
            line["prompt"] = self.prompt
        return line


def attach(scope: Scope, record: RequestRecord) -> None:
    """Let whoever answers the request find its record."""
    scope.setdefault("state", {})["record"] = record


def record_of(request: Request) -> RequestRecord:
    """The record of this request."""
    record = request.state.record
    assert isinstance(record, RequestRecord)
    return record
