"""Public tasks by name: where their records are, and how a record becomes a prompt.

The records themselves are not part of this project. They come through the `datasets` library, or
from a file that the user has.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from selfdraft.bench.tasks.scoring import Answer, CodeAnswer, NumberAnswer
from selfdraft.errors import ConfigError

Record = Mapping[str, Any]

# More records than anybody times; some of these sets have millions.
_MAX_RECORDS = 2000

# Words of a story that are given; the model continues.
_STORY_WORDS = 40

_SPEC_BENCH_FILE = (
    "https://raw.githubusercontent.com/hemingkx/Spec-Bench/main/data/spec_bench/question.jsonl"
)


class PromptParts(NamedTuple):
    """What a record says: the fields of `BenchPrompt` that depend on it."""

    text: str
    category: str = "all"
    is_raw: bool = False
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class TaskFormat:
    """One public data set."""

    arguments: tuple[str, ...]
    """Of `datasets.load_dataset`."""
    split: str
    read: Callable[[Record], PromptParts]
    data_files: str | None = None

    def fetch(self, name: str) -> Iterator[Record]:
        """The records, in their order.

        Raises:
            ConfigError: the library is missing, or the data cannot be fetched.
        """
        remedy = f"or give a file that you have: --tasks {name}=FILE.jsonl"
        try:
            from datasets import load_dataset  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise ConfigError(
                f"the task {name} needs the library `datasets`: pip install datasets, {remedy}"
            ) from error
        extra = {} if self.data_files is None else {"data_files": self.data_files}
        try:
            # A stream: only the records that are read are downloaded.
            records = load_dataset(*self.arguments, split=self.split, streaming=True, **extra)
            return iter(list(islice(records, _MAX_RECORDS)))
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"cannot fetch the task {name} ({type(error).__name__}): try again with a network, "
                f"{remedy}"
            ) from error


def _spec_bench(record: Record) -> PromptParts:
    """The first turn: the second answers to what the model wrote in the first."""
    return PromptParts(record["turns"][0], record["category"])


def _gsm8k(record: Record) -> PromptParts:
    text = (
        f"{record['question']}\n\nThink step by step. End with one line that holds #### and the "
        "final number."
    )
    expected = record["answer"].rpartition("####")[2]
    return PromptParts(text, answer=NumberAnswer.of(expected))


def _human_eval(record: Record) -> PromptParts:
    text = (
        "Complete this Python function. Answer with the whole function in one code block, without "
        f"explanations.\n\n```python\n{record['prompt']}```"
    )
    answer = CodeAnswer(record["prompt"], record["test"], record["entry_point"])
    return PromptParts(text, answer=answer)


def _cnn_dm(record: Record) -> PromptParts:
    return PromptParts(f"Summarise this article in three sentences.\n\n{record['article']}")


def _tinystories(record: Record) -> PromptParts:
    words = record["text"].split()
    return PromptParts(" ".join(words[:_STORY_WORDS]), is_raw=True)


def _wmt(record: Record) -> PromptParts:
    return PromptParts(f"Translate from German into English: {record['translation']['de']}")


def _alpaca(record: Record) -> PromptParts:
    given = record.get("input")
    return PromptParts(f"{record['instruction']}\n\n{given}" if given else record["instruction"])


FORMATS = {
    "spec-bench": TaskFormat(("json",), "train", _spec_bench, _SPEC_BENCH_FILE),
    "gsm8k": TaskFormat(("openai/gsm8k", "main"), "test", _gsm8k),
    "humaneval": TaskFormat(("openai/openai_humaneval",), "test", _human_eval),
    "cnn-dm": TaskFormat(("abisee/cnn_dailymail", "3.0.0"), "test", _cnn_dm),
    "tinystories": TaskFormat(("roneneldan/TinyStories",), "validation", _tinystories),
    "wmt": TaskFormat(("wmt/wmt14", "de-en"), "test", _wmt),
    "alpaca": TaskFormat(("tatsu-lab/alpaca",), "train", _alpaca),
}
"""Public tasks by name."""
