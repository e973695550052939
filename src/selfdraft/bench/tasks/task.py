"""Tasks: named sets of prompts, from ourselves, from a file, or through the `datasets` library.

A task is written `NAME`, `NAME/CATEGORY`, `NAME=FILE` or `FILE`: `built-in`, `spec-bench/qa`,
`gsm8k=questions.jsonl`, `mine.jsonl`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfdraft.bench.tasks.built_in import BUILT_IN_BY_KIND
from selfdraft.bench.tasks.prompts import prompt_of, read_records
from selfdraft.bench.tasks.scoring import Answer
from selfdraft.bench.tasks.task_formats import FORMATS, TaskFormat
from selfdraft.config import require
from selfdraft.errors import ConfigError

BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class BenchPrompt:
    """One prompt of a task."""

    task: str
    index: int
    """Its place in the task, from 0: the same whatever is sampled."""
    category: str
    text: str
    is_raw: bool = False
    """Continue the text as it is, without a chat template."""
    answer: Answer | None = None
    """How to tell whether an output is right, where the task says so."""


@dataclass(frozen=True, slots=True)
class TaskName:
    """What the user calls a task."""

    name: str
    category: str | None = None
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "TaskName":
        """Read `NAME`, `NAME/CATEGORY`, `NAME=FILE` or `FILE`.

        Raises:
            ConfigError: it names neither a task nor a file.
        """
        name, equals, file = text.partition("=")
        if not equals and Path(text).suffix in (".jsonl", ".json"):
            return cls(Path(text).stem, file=Path(text).expanduser())
        base, _, category = name.partition("/")
        is_known = base == BUILT_IN or base in FORMATS
        require(
            bool(base) and (is_known or bool(equals)),
            f"there is no task {text!r}: give {', '.join((BUILT_IN, *FORMATS))}, NAME=FILE.jsonl "
            "or FILE.jsonl",
        )
        return cls(base, category or None, Path(file).expanduser() if equals else None)

    def __str__(self) -> str:
        return self.name if self.category is None else f"{self.name}/{self.category}"


def load_task(task: TaskName) -> list[BenchPrompt]:
    """All prompts of a task, in its own order.

    Raises:
        ConfigError: its file cannot be used, its data cannot be fetched, or its category is empty.
    """
    prompts = _load_all(task)
    if task.category is None:
        return prompts
    chosen = [p for p in prompts if p.category == task.category]
    known = ", ".join(sorted({p.category for p in prompts}))
    require(bool(chosen), f"{task.name} has no category {task.category!r}: it has {known}")
    return chosen


def sample(prompts: Sequence[BenchPrompt], limit: int | None, seed: int = 0) -> list[BenchPrompt]:
    """At most `limit` prompts, as evenly over the categories as they allow; always the same ones.

    They come category by category in turn, so that a run that is stopped early is balanced, too.
    """
    generator = random.Random(seed)
    by_category: dict[str, list[BenchPrompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    for members in by_category.values():
        generator.shuffle(members)
    longest = max(map(len, by_category.values()), default=0)
    turns = [m[turn] for turn in range(longest) for m in by_category.values() if turn < len(m)]
    return turns[:limit]


def _load_all(task: TaskName) -> list[BenchPrompt]:
    if task.name == BUILT_IN and task.file is None:
        pairs = [(kind, text) for kind, texts in BUILT_IN_BY_KIND.items() for text in texts]
        return [BenchPrompt(str(task), i, kind, text) for i, (kind, text) in enumerate(pairs)]
    task_format = FORMATS.get(task.name)
    if task.file is not None:
        records = read_records(task.file)
        if task_format is None:
            return [_plain(task, i, *numbered) for i, numbered in enumerate(records)]
        return [
            _formatted(task, task_format, i, record, f"{task.file}, line {number}")
            for i, (number, record) in enumerate(records)
        ]
    assert task_format is not None, "`TaskName.parse` lets nothing else through"
    fetched = task_format.fetch(task.name)
    return [
        _formatted(task, task_format, i, record, f"{task.name}, record {i}")
        for i, record in enumerate(fetched)
    ]


def _plain(task: TaskName, index: int, number: int, record: object) -> BenchPrompt:
    assert task.file is not None
    text = prompt_of(task.file, number, record)
    category = record.get("category") if isinstance(record, dict) else None
    return BenchPrompt(str(task), index, str(category or "all"), text)


def _formatted(
    task: TaskName, task_format: TaskFormat, index: int, record: object, where: str
) -> BenchPrompt:
    if not isinstance(record, dict):
        raise ConfigError(f"{where} is not a JSON object: write one per line")
    blank = BenchPrompt(str(task), index, "all", "")
    try:
        return replace(blank, **task_format.read(record)._asdict())
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{where} is no record of {task.name} ({type(error).__name__}: {error}): use "
            f'the original fields, or another name for a file with a "prompt" per line'
        ) from error
