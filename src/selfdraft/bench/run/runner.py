"""The measuring itself: every prompt by every method in turn, so that nobody has the better hour.

The order of methods rotates from prompt to prompt. What was measured is on disk at once; Ctrl-C or
the time limit ends the run after it, and the next run goes on where this one stopped.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

from selfdraft.bench.methods.method import Method, Request
from selfdraft.bench.run.measurement import Measurement, PromptKey
from selfdraft.bench.run.memory_meter import MemoryMeter, MemoryUse
from selfdraft.bench.run.result_folder import ResultFolder
from selfdraft.bench.tasks.task import BenchPrompt

Ending = Literal["complete", "interrupted", "time limit"]

_WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Work:
    """One prompt, ready for every method, in one repeat."""

    prompt: BenchPrompt
    request: Request
    repeat: int

    @property
    def key(self) -> PromptKey:
        """As `Measurement.prompt_key`."""
        return self.prompt.task, self.prompt.index, self.repeat


class Observer(Protocol):
    """Whoever wants to know what is going on. It is called between measurements only."""

    def started(self, work: Work, method: str) -> None:
        """A method begins on a prompt."""
        ...

    def measured(self, measurement: Measurement) -> None:
        """A method has finished a prompt."""
        ...


def interleave(requests: Sequence[tuple[BenchPrompt, Request]], num_repeats: int) -> list[Work]:
    """All work in its order: the tasks in turn, then the same again for each repeat."""
    by_task: dict[str, list[tuple[BenchPrompt, Request]]] = {}
    for prompt, request in requests:
        by_task.setdefault(prompt.task, []).append((prompt, request))
    longest = max(map(len, by_task.values()), default=0)
    in_turn = [m[i] for i in range(longest) for m in by_task.values() if i < len(m)]
    return [Work(*pair, repeat) for repeat in range(num_repeats) for pair in in_turn]


def measure(
    work: Sequence[Work],
    methods: Sequence[Method],
    folder: ResultFolder,
    observer: Observer,
    *,
    device: torch.device,
    time_limit: float | None = None,
) -> Ending:
    """Measure what `folder` does not have yet; `time_limit` is in seconds, warm-up included.

    The limit is looked at between prompts, so that no method has more of them than another.
    """
    done = {(m.prompt_key, m.method) for m in folder.measurements}
    start = time.monotonic()
    try:
        if any((w.key, m.name) not in done for w in work for m in methods):
            _warm_up(work[0], methods)
        for number, item in enumerate(work):
            is_over = time_limit is not None and time.monotonic() - start > time_limit
            if is_over and any((item.key, m.name) not in done for m in methods):
                return "time limit"
            for turn, method in _rotated(methods, number):
                if (item.key, method.name) in done:
                    continue
                observer.started(item, method.name)
                measurement = _measure_one(item, method, turn, device)
                folder.add(measurement)
                observer.measured(measurement)
    except KeyboardInterrupt:
        return "interrupted"
    return "complete"


def _warm_up(work: Work, methods: Sequence[Method]) -> None:
    """Let every method do what it does only once: compile, allocate, measure its costs."""
    short = min(work.request.max_new_tokens, _WARM_UP_TOKENS)
    for method in methods:
        method.run(replace(work.request, max_new_tokens=short))


def _rotated(methods: Sequence[Method], offset: int) -> Iterator[tuple[int, Method]]:
    for turn in range(len(methods)):
        yield turn, methods[(turn + offset) % len(methods)]


def _measure_one(item: Work, method: Method, turn: int, device: torch.device) -> Measurement:
    meter = MemoryMeter(device)
    output = method.run(item.request)
    # The memory of a peer is not that of this process.
    memory = MemoryUse(None, None) if method.family == "peer" else meter.read()
    return Measurement.of(
        item.prompt,
        method,
        output,
        memory,
        repeat=item.repeat,
        turn=turn,
        num_prompt_tokens=len(item.request.token_ids),
    )
