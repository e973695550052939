"""Prompts to measure and check with: our own small set, or a JSONL file of the user's."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from selfdraft.bench.tasks.built_in import BUILT_IN_BY_KIND
from selfdraft.errors import ConfigError
from selfdraft.text.prompt import encode_prompt

BUILT_IN = tuple(prompts[0] for prompts in BUILT_IN_BY_KIND.values())
"""One prompt for each of eight kinds of text."""


def load_prompts(path: Path | None, limit: int | None = None) -> list[str]:
    """The first `limit` prompts of a JSONL file, or of our own.

    A line is an object whose prompt is its `prompt`, its `question`, or the first of its `turns`.

    Raises:
        ConfigError: the file cannot be read or a line has no prompt.
    """
    if path is None:
        return list(BUILT_IN[:limit])
    return [prompt_of(path, number, record) for number, record in read_records(path)[:limit]]


def read_records(path: Path) -> list[tuple[int, object]]:
    """The JSON value of each line that is not blank, with the line's number.

    Raises:
        ConfigError: the file cannot be read, has no lines, or a line is not JSON.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the prompts {path}: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise ConfigError(f"{path} holds no prompts: write one JSON object per line")
    return [(number, _parse(path, number, line)) for number, line in numbered]


def prompt_of(path: Path, number: int, record: object) -> str:
    """A record's `prompt`, its `question`, or the first of its `turns`.

    Raises:
        ConfigError: it has none of them.
    """
    if isinstance(record, dict):
        first_turn = (record.get("turns") or [None])[0]
        for text in (record.get("prompt"), record.get("question"), first_turn):
            if isinstance(text, str) and text:
                return text
    raise ConfigError(f'{path}, line {number} has no "prompt", "question" or "turns": add one')


def encode_all(
    prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None
) -> list[list[int]]:
    """Token ids of each prompt, as a chat message where the tokenizer has a template for one."""
    is_chat = tokenizer is not None and tokenizer.chat_template is not None
    return [
        encode_prompt([{"role": "user", "content": text}] if is_chat else text, tokenizer).token_ids
        for text in prompts
    ]


def _parse(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {number} is not valid JSON: {error}") from error
