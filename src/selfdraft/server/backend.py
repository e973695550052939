"""What the routes stand on: the service, the engine once it is loaded, and the metrics."""

import asyncio
from collections.abc import Callable, Sequence
from time import time
from typing import Annotated

from fastapi import Depends, Request

from selfdraft.engine import Engine
from selfdraft.server import errors
from selfdraft.server.draft_report import snapshot
from selfdraft.server.job import Ask, Job
from selfdraft.server.metrics import Metrics, Snapshot
from selfdraft.server.prepare import Preparer
from selfdraft.server.service import Service
from selfdraft.server.settings import ServerSettings
from selfdraft.server.token_texts import TokenTexts


class Backend:
    """One application's engine and everything about it."""

    def __init__(self, settings: ServerSettings, load_engine: Callable[[], Engine]) -> None:
        self.settings = settings
        self.created = int(time())
        self.metrics = Metrics(self._snapshot)
        self.service = Service(settings, load_engine, self.metrics, on_load=self._use)
        self._preparer: Preparer | None = None
        self._tokens = TokenTexts(None)

    @property
    def preparer(self) -> Preparer:
        """What encodes and checks requests.

        Raises:
            ApiError: the model is not loaded, or no longer served.
        """
        self.service.require_ready()
        assert self._preparer is not None, "made before the service is ready"
        return self._preparer

    @property
    def tokens(self) -> TokenTexts:
        """Single tokens as text."""
        return self._tokens

    def require_model(self, name: str | None) -> None:
        """Raise `ApiError` unless `name` is the model that is served, or not given."""
        served = self.settings.served_model_name
        if name is not None and name != served:
            raise errors.unknown_model(name, served)

    def new_job(self, request_id: str, asks: Sequence[Ask], num_per_prompt: int) -> Job:
        """A job whose prompts are each asked `num_per_prompt` times in a row."""
        return Job(
            request_id=request_id,
            asks=asks,
            num_prompt_tokens=sum(len(ask.prompt.token_ids) for ask in asks[::num_per_prompt]),
            loop=asyncio.get_running_loop(),
        )

    def _use(self, engine: Engine) -> None:
        """The model is loaded: what needs it is made, and settings that do not fit are refused."""
        preparer = Preparer(engine, self.settings)
        engine.drafter(self.settings.draft)
        self._tokens = TokenTexts(engine.tokenizer)
        self._preparer = preparer

    def _snapshot(self) -> Snapshot:
        engine = None if self._preparer is None else self._preparer.engine
        service = self.service
        return snapshot(engine, self.settings.draft, service.num_running, service.num_waiting)


async def backend_of(request: Request) -> Backend:
    """The backend of the application that got this request."""
    backend = request.app.state.backend
    assert isinstance(backend, Backend)
    return backend


BackendDep = Annotated[Backend, Depends(backend_of)]
"""A route's parameter of this type gets the backend."""
