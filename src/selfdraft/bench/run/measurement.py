"""One measurement: one method on one prompt, once. A line of `measurements.jsonl`."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from selfdraft.bench.methods.method import Method, Output
from selfdraft.bench.run.memory_meter import MemoryUse
from selfdraft.bench.tasks.task import BenchPrompt

PromptKey = tuple[str, int, int]
"""Task, index of the prompt, repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured; the names are those of the result files, see docs/bench-format.md."""

    task: str
    prompt_index: int
    category: str
    repeat: int
    method: str
    family: str
    turn: int
    """Its place in the order of methods on this prompt, from 0; the order rotates."""
    num_prompt_tokens: int
    token_ids: tuple[int, ...]
    total_seconds: float
    prefill_seconds: float | None
    decode_seconds: float | None
    num_decoded: int
    num_rounds: int | None
    timeline: tuple[tuple[float, int], ...]
    peak_bytes: int | None
    extra_bytes: int | None
    stats: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        prompt: BenchPrompt,
        method: Method,
        output: Output,
        memory: MemoryUse,
        *,
        repeat: int,
        turn: int,
        num_prompt_tokens: int,
    ) -> "Measurement":
        """Put together what the runner knows."""
        return cls(
            task=prompt.task,
            prompt_index=prompt.index,
            category=prompt.category,
            repeat=repeat,
            method=method.name,
            family=method.family,
            turn=turn,
            num_prompt_tokens=num_prompt_tokens,
            token_ids=output.token_ids,
            total_seconds=output.total_seconds,
            prefill_seconds=output.prefill_seconds,
            decode_seconds=output.decode_seconds,
            num_decoded=output.num_decoded,
            num_rounds=output.num_rounds,
            timeline=output.timeline,
            peak_bytes=memory.peak_bytes,
            extra_bytes=memory.extra_bytes,
            stats=output.stats,
        )

    @property
    def prompt_key(self) -> PromptKey:
        """What the other methods' measurements of the same work share with this one."""
        return self.task, self.prompt_index, self.repeat

    def as_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Measurement":
        """What `as_dict` gave; fields of later versions are left out."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in record.items() if name in known}
        values["token_ids"] = tuple(values["token_ids"])
        values["timeline"] = tuple((s, n) for s, n in values["timeline"])
        return cls(**values)
