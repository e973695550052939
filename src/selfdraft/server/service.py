"""Who runs when: one thread owns the model, and requests take turns on it. Read this file first.

    submit -> waiting (first come, first served) -> running -> its last event

In every turn each running request gets one round (`JobRun.step`), so none waits for the end of
another. A request that is cancelled is dropped before its next round; one that fails, fails alone.
The event loop reads what its requests write from their own queues (`job`).
"""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from time import perf_counter
from typing import Any, Literal, TypeVar

from selfdraft.engine import Engine
from selfdraft.errors import SelfdraftError
from selfdraft.server import errors
from selfdraft.server.errors import ApiError
from selfdraft.server.job import Ended, Job
from selfdraft.server.job_run import JobRun
from selfdraft.server.metrics import Metrics
from selfdraft.server.settings import ServerSettings

T = TypeVar("T")

State = Literal["loading", "ready", "ending", "ended", "dead"]

_logger = logging.getLogger(__name__)


class Service:
    """The worker thread and its queue. All methods may be called from any thread."""

    def __init__(
        self,
        settings: ServerSettings,
        load_engine: Callable[[], Engine],
        metrics: Metrics,
        *,
        on_load: Callable[[Engine], None] = lambda engine: None,
    ) -> None:
        """`load_engine` and then `on_load` run in the worker thread, before any request."""
        self._settings = settings
        self._load_engine = load_engine
        self._on_load = on_load
        self._metrics = metrics
        self._changed = Condition()
        self._waiting: deque[Job] = deque()
        self._running: list[JobRun] = []
        self._calls: deque[tuple[Future[Any], Callable[[Engine], Any]]] = deque()
        self._state: State = "loading"
        self._deadline: float | None = None
        self.failure: Exception | None = None
        """Why the model could not be loaded."""
        self._worker = Thread(target=self._work, name="selfdraft-worker", daemon=True)

    @property
    def state(self) -> State:
        """Where in its life the service is; "dead" is a worker that ended unasked."""
        return self._state

    @property
    def num_running(self) -> int:
        """Requests that take turns."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that no turn has come to yet."""
        return len(self._waiting)

    @property
    def has_started(self) -> bool:
        """Whether `start` was called, which can be done once."""
        return self._worker.ident is not None

    def start(self) -> None:
        """Load the model, then serve."""
        self._worker.start()

    def require_ready(self) -> None:
        """Raise `ApiError` unless the model is loaded and requests are taken."""
        if self._state == "loading":
            raise errors.unavailable("the model is loading", code="loading")
        if self._state in ("ending", "ended"):
            raise errors.shutting_down()
        if self._state == "dead":
            raise errors.unavailable("the worker has failed: restart the server", code="dead")

    def require_room(self) -> None:
        """Raise `ApiError` if a request could not be submitted now."""
        self.require_ready()
        num_unfinished = len(self._waiting) + len(self._running)
        if num_unfinished >= self._settings.max_queue + self._settings.max_running:
            raise errors.queue_full(self._settings.max_queue)

    def submit(self, job: Job) -> None:
        """Put a request into the queue.

        Raises:
            ApiError: the queue is full, or the service does not run.
        """
        with self._changed:
            self.require_room()
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Nobody reads this request any more: it gets no further round."""
        job.is_cancelled = True
        with self._changed:
            if job not in self._waiting:  # it runs, or has ended
                return
            self._waiting.remove(job)
        self._metrics.count_choice("abort")

    def call(self, function: Callable[[Engine], T]) -> T:
        """What `function` makes of the engine, on the worker's thread and between two turns.

        Everything that computes belongs there: with a second thread that does, torch has twice as
        many threads as cores, and both are slowed down.

        Raises:
            ApiError: the service does not run.
        """
        future: Future[T] = Future()
        with self._changed:
            self.require_ready()
            self._calls.append((future, function))
            self._changed.notify()
        return future.result()

    def begin_shutdown(self) -> None:
        """Take no more requests. Running ones have `shutdown_seconds` to end; the rest has none."""
        with self._changed:
            if self._state in ("loading", "ready"):
                self._state = "ending"
            if self._deadline is None:
                self._deadline = perf_counter() + self._settings.shutdown_seconds
            waiting = [*self._waiting]
            self._waiting.clear()
            self._changed.notify()
        for job in waiting:
            self._refuse(job, errors.shutting_down())

    def abort(self) -> None:
        """End what still runs, at once for its readers, even if the worker is deep in a round."""
        self.begin_shutdown()
        with self._changed:
            self._deadline = perf_counter()
            running = [*self._running]
        for run in running:
            run.job.deliver(errors.shutting_down())
            run.job.is_cancelled = True

    def join(self, timeout: float) -> bool:
        """Wait for the worker to end. False if it is still deep in something after `timeout`."""
        if self.has_started:
            self._worker.join(timeout)
        return not self._worker.is_alive()

    def _work(self) -> None:
        engine = self._load()
        if engine is None:
            return
        try:
            while self._await_work():
                self._turn(engine)
        except Exception:
            _logger.exception("the worker has failed")
        finally:
            self._end()

    def _load(self) -> Engine | None:
        try:
            engine = self._load_engine()
            self._on_load(engine)
        except SelfdraftError as error:
            self._fail(error)
            return None
        except Exception as error:
            _logger.exception("the model could not be loaded")
            self._fail(error)
            return None
        with self._changed:
            if self._state == "loading":
                self._state = "ready"
        return engine

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._state = "dead"

    def _await_work(self) -> bool:
        """Sleep until there is something to run. False if the service is to end."""
        with self._changed:
            while not (self._waiting or self._running or self._calls):
                if self._state == "ending":
                    return False
                self._changed.wait()
            return True

    def _turn(self, engine: Engine) -> None:
        """One round for every request that runs, after what was called."""
        while self._calls:
            future, function = self._calls.popleft()
            try:
                future.set_result(function(engine))
            except Exception as error:  # noqa: BLE001  # it is the caller's
                future.set_exception(error)
        for run in self._admit():
            last = self._advance(run, engine)
            if last is None:
                continue
            # Its reader must find its place free when it asks again.
            with self._changed:
                self._running.remove(run)
            run.close()
            if isinstance(last, ApiError):
                self._refuse(run.job, last)
            else:
                run.job.deliver(last)

    def _admit(self) -> list[JobRun]:
        """Those that run in this turn, in the order they came."""
        with self._changed:
            while self._waiting and len(self._running) < self._settings.max_running:
                self._running.append(JobRun(self._waiting.popleft(), self._metrics))
            return [*self._running]

    def _advance(self, run: JobRun, engine: Engine) -> Ended | ApiError | None:
        """Give a request one round. Its last event if it is over."""
        if run.job.is_cancelled:
            return errors.client_left()
        if self._deadline is not None and perf_counter() >= self._deadline:
            return errors.shutting_down()
        try:
            run.step(engine)
        except SelfdraftError as error:
            return errors.invalid(str(error))
        except Exception:
            _logger.exception("a request failed", extra={"request_id": run.job.request_id})
            return errors.internal()
        return Ended(run.summary()) if run.is_over else None

    def _refuse(self, job: Job, error: ApiError) -> None:
        self._metrics.count_choice("abort" if job.is_cancelled else "error")
        job.deliver(error)

    def _end(self) -> None:
        """Nothing is left unanswered, whatever ended the worker."""
        for future, _ in self._calls:
            future.cancel()
        with self._changed:
            is_asked = self._state == "ending"
            self._state = "ended" if is_asked else "dead"
            left = [*(run.job for run in self._running), *self._waiting]
            self._running.clear()
            self._waiting.clear()
        for job in left:
            self._refuse(job, errors.shutting_down() if is_asked else errors.internal())
