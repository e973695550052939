r"""Bodies are read as JSON that says one thing, and text.

A name that is there twice is refused: Python's reader keeps the last one, others the first, and
what a proxy has checked would not be what is done. So is half a character (`"\ud800"`): JSON can
write it, and no tokenizer, log or answer can.

Bodies are read and checked in the event loop, where nobody else is served meanwhile. So all of it
is linear in their length, and an object that would have an error for each of its names is refused.
"""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from selfdraft.server.errors import BodyError, field_name

MAX_MEMBERS = 10_000
"""Names that an object may have; a JSON schema's `properties` have fewer."""


class StrictJsonRoute(APIRoute):
    """A route whose body is read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler, with another way to read the body."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        document = json.loads(await self.body(), object_pairs_hook=_unique)
        path = _half_character(document)
        if path is not None:
            name = field_name(path)
            raise BodyError(f"{name} holds half of a surrogate pair, which is no text", param=name)
        return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_MEMBERS:
        message = f"an object has {len(pairs):,} names: give at most {MAX_MEMBERS:,}"
        raise BodyError(message, param=None)
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise json.JSONDecodeError(f"{twice!r} is there twice", "", 0)
    return members


def _half_character(document: object) -> Sequence[str | int] | None:
    """Where the first string is that cannot be encoded; None if there is none."""
    if _is_text(json.dumps(document, ensure_ascii=False)):  # far faster than to look at each
        return None
    rest = [_Place(document, None, "")]
    while rest:
        place = rest.pop()
        value = place.value
        if isinstance(value, str):
            if not _is_text(value):
                return place.path()
        elif isinstance(value, list):
            rest.extend(
                _Place(item, place, i)
                for i, item in enumerate(value)
                if isinstance(item, str | list | dict)
            )
        elif isinstance(value, dict):
            for name, item in value.items():
                inside = _Place(item, place, name)
                if not _is_text(name):
                    return inside.path()
                rest.append(inside)
    return None


class _Place(NamedTuple):
    """A value in a document. A path for each would take the square of the depth."""

    value: object
    parent: "_Place | None"
    part: str | int

    def path(self) -> list[str | int]:
        """What leads to the value from the top."""
        parts: list[str | int] = []
        place = self
        while place.parent is not None:
            parts.append(place.part)
            place = place.parent
        return parts[::-1]


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
