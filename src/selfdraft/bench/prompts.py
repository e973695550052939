"""Prompts to measure and check with: our own small set, or a JSONL file of the user's."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from selfdraft.errors import ConfigError
from selfdraft.prompt import encode_prompt

BUILT_IN = (
    "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "A shop sells pencils at 3 for 1.20 euros. How much do 14 pencils cost? Explain each step.",
    "Write a Python function that merges two sorted lists into one, with a docstring and a test.",
    "Translate into French: The train to the coast leaves at nine, and the sea is calm today.",
    "Summarise in two sentences: Bees visit flowers for nectar. While they drink, pollen sticks to "
    "their hair and travels to the next flower, where it fertilises the seeds. Without bees many "
    "fruits would not grow, and farmers would have to carry pollen by hand.",
    "What is the difference between weather and climate? Answer for a ten-year-old.",
    "List the ingredients for a tomato soup for four people, with amounts, as a table.",
    "You are the captain of a small ship in a storm. Speak to your crew and calm them down.",
)
"""One prompt for each of eight kinds of text."""


def load_prompts(path: Path | None, limit: int | None = None) -> list[str]:
    """The first `limit` prompts of a JSONL file, or of our own.

    A line is an object whose prompt is its `prompt`, its `question`, or the first of its `turns`.

    Raises:
        ConfigError: the file cannot be read or a line has no prompt.
    """
    if path is None:
        return list(BUILT_IN[:limit])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the prompts {path}: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise ConfigError(f"{path} holds no prompts: write one JSON object per line")
    return [_prompt_of(path, number, line) for number, line in numbered[:limit]]


def encode_all(
    prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None
) -> list[list[int]]:
    """Token ids of each prompt, as a chat message where the tokenizer has a template for one."""
    is_chat = tokenizer is not None and tokenizer.chat_template is not None
    return [
        encode_prompt([{"role": "user", "content": text}] if is_chat else text, tokenizer)
        for text in prompts
    ]


def _prompt_of(path: Path, number: int, line: str) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {number} is not valid JSON: {error}") from error
    if isinstance(record, dict):
        first_turn = (record.get("turns") or [None])[0]
        for text in (record.get("prompt"), record.get("question"), first_turn):
            if isinstance(text, str) and text:
                return text
    raise ConfigError(f'{path}, line {number} has no "prompt", "question" or "turns": add one')
