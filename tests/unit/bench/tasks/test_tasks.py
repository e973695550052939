"""Names of tasks, their records, and which prompts are taken."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from selfdraft.bench.tasks.scoring import CodeAnswer, NumberAnswer
from selfdraft.bench.tasks.task import BenchPrompt, TaskName, load_task, sample
from selfdraft.bench.tasks.task_formats import FORMATS
from selfdraft.errors import ConfigError

RECORDS: dict[str, dict[str, object]] = {
    "spec-bench": {"category": "qa", "turns": ["Who?", "And why?"]},
    "gsm8k": {"question": "2 plus 3?", "answer": "It is\n#### 5"},
    "humaneval": {
        "prompt": "def one():\n    '''One.'''\n",
        "test": "def check(candidate):\n    assert candidate() == 1",
        "entry_point": "one",
    },
    "cnn-dm": {"article": "A long article."},
    "tinystories": {"text": " ".join(["word"] * 100)},
    "wmt": {"translation": {"de": "Guten Tag", "en": "Good day"}},
    "alpaca": {"instruction": "Sort these.", "input": "b, a"},
}
"""A record of each task, of our own making."""


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_every_format_reads_its_own_records(tmp_path: Path) -> None:
    """Guards against a format that fits no record, which shows only with a network."""
    assert RECORDS.keys() == FORMATS.keys()
    for name, record in RECORDS.items():
        (prompt,) = load_task(TaskName.parse(f"{name}={jsonl(tmp_path / 'r.jsonl', record)}"))
        assert prompt.text
        assert prompt.task == name


def test_prompts_are_what_the_task_asks(tmp_path: Path) -> None:
    """Guards against the second turn, the solution, or the translation being given away."""

    def prompt_of(name: str) -> BenchPrompt:
        file = jsonl(tmp_path / f"{name}.jsonl", RECORDS[name])
        return load_task(TaskName.parse(f"{name}={file}"))[0]

    assert prompt_of("spec-bench").text == "Who?"
    assert prompt_of("spec-bench").category == "qa"
    assert prompt_of("gsm8k").answer == NumberAnswer("5")
    assert "#### 5" not in prompt_of("gsm8k").text
    assert isinstance(prompt_of("humaneval").answer, CodeAnswer)
    assert "Good day" not in prompt_of("wmt").text
    story = prompt_of("tinystories")
    assert story.is_raw
    assert len(story.text.split()) < 100


def test_a_category_is_a_task_of_its_own(tmp_path: Path) -> None:
    """Guards against a category that is empty because nobody wrote it so."""
    file = jsonl(
        tmp_path / "s.jsonl",
        {"category": "qa", "turns": ["Who?"]},
        {"category": "rag", "turns": ["Where?"]},
    )
    prompts = load_task(TaskName.parse(f"spec-bench/rag={file}"))
    assert [p.text for p in prompts] == ["Where?"]
    assert prompts[0].index == 1, "the same index as in the whole task"
    with pytest.raises(ConfigError, match="it has qa, rag"):
        load_task(TaskName.parse(f"spec-bench/maths={file}"))


def test_any_file_is_a_task(tmp_path: Path) -> None:
    """Guards against files of the user's own that need a known name."""
    file = jsonl(tmp_path / "mine.jsonl", {"prompt": "a"}, {"question": "b"}, {"turns": ["c"]})
    for text in (str(file), f"mine={file}"):
        prompts = load_task(TaskName.parse(text))
        assert [(p.task, p.text) for p in prompts] == [("mine", t) for t in "abc"]


def test_a_record_of_another_task_is_named(tmp_path: Path) -> None:
    """Guards against a traceback for a file with the wrong fields."""
    file = jsonl(tmp_path / "wrong.jsonl", {"prompt": "a"})
    with pytest.raises(ConfigError, match=r"wrong.jsonl, line 1 is no record of gsm8k"):
        load_task(TaskName.parse(f"gsm8k={file}"))


def test_an_unknown_task_lists_the_known_ones() -> None:
    """Guards against an error that leaves its reader guessing."""
    with pytest.raises(ConfigError, match="spec-bench, gsm8k"):
        TaskName.parse("gsm9k")


def test_without_the_library_the_remedy_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an ImportError for a library that is optional."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"--tasks spec-bench=FILE.jsonl"):
        load_task(TaskName.parse("spec-bench"))


def test_the_sample_is_balanced_and_always_the_same() -> None:
    """Guards against a limit that takes the first category only, or other prompts every time."""
    prompts = load_task(TaskName.parse("built-in"))
    once, again = sample(prompts, 11), sample(prompts, 11)
    assert once == again
    assert len(set(once)) == 11
    counts = Counter(p.category for p in once)
    assert len(counts) == 8
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sample(prompts, 5) == once[:5], "more prompts are the same ones and others"
    assert sorted(p.index for p in sample(prompts, None)) == list(range(len(prompts)))
