"""Stand-ins for methods and measurements, without a model."""

from dataclasses import dataclass, field, replace
from typing import Any

from selfdraft.bench.methods.method import Family, Output, Request
from selfdraft.bench.run.measurement import Measurement
from selfdraft.bench.run.runner import Work
from selfdraft.bench.tasks.task import BenchPrompt


@dataclass
class FakeMethod:
    """Writes always the same, and remembers what it was asked."""

    name: str
    calls: list[Request] = field(default_factory=list)
    family: Family = "selfdraft"

    def run(self, request: Request) -> Output:
        self.calls.append(request)
        return Output((1, 2, 3), 1.0, 0.25, 0.75, 3, ((0.5, 1), (1.0, 3)), 2, {})


class Watcher:
    """An observer that keeps the order of things, and may press Ctrl-C."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.order: list[tuple[int, str]] = []
        self._stop_after = stop_after

    def started(self, work: Work, method: str) -> None:
        if len(self.order) == self._stop_after:
            raise KeyboardInterrupt
        self.order.append((work.prompt.index, method))

    def measured(self, measurement: Measurement) -> None:
        pass


def pairs(num_prompts: int, task: str = "t") -> list[tuple[BenchPrompt, Request]]:
    return [
        (BenchPrompt(task, i, "even" if i % 2 == 0 else "odd", f"text {i}"), Request((1, i), 8))
        for i in range(num_prompts)
    ]


def measurement(**overrides: Any) -> Measurement:
    plain = Measurement(
        task="t",
        prompt_index=0,
        category="all",
        repeat=0,
        method="off",
        family="selfdraft",
        turn=0,
        num_prompt_tokens=4,
        token_ids=(1, 2, 3, 4),
        total_seconds=2.0,
        prefill_seconds=0.5,
        decode_seconds=1.0,
        num_decoded=4,
        num_rounds=2,
        timeline=((1.0, 2), (2.0, 4)),
        peak_bytes=100,
        extra_bytes=10,
        stats={"verify_seconds": 0.6, "draft_seconds": 0.2, "prefill_seconds": 0.5},
    )
    return replace(plain, **overrides)
