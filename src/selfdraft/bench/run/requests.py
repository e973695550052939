"""From the prompts of a task to requests: encode, leave out what is too long, sample."""

from collections.abc import Sequence

from selfdraft.bench.methods.method import Request
from selfdraft.bench.tasks.task import BenchPrompt, sample
from selfdraft.config import require
from selfdraft.engine import Engine
from selfdraft.text.prompt import encode_prompt


def requests_of(
    prompts: Sequence[BenchPrompt],
    engine: Engine,
    *,
    limit: int | None,
    max_prompt_tokens: int | None,
    max_new_tokens: int,
    temperature: float,
) -> list[tuple[BenchPrompt, Request]]:
    """At most `limit` prompts that leave room for `max_new_tokens`, as what every method is asked.

    The seed of a request is its prompt's index: the same for all methods, different for prompts.

    Raises:
        ConfigError: no prompt is short enough.
    """
    room = _room(engine, max_new_tokens, max_prompt_tokens)
    chosen: list[tuple[BenchPrompt, Request]] = []
    longest = 0
    # The sample is drawn before the long ones are left out, so that a category keeps its share
    # where it can; tokenizing stops when there are enough.
    for prompt in sample(prompts, None):
        if limit is not None and len(chosen) == limit:
            break
        token_ids = _encode(prompt, engine)
        longest = max(longest, len(token_ids))
        if room is None or len(token_ids) <= room:
            request = Request(tuple(token_ids), max_new_tokens, temperature, seed=prompt.index)
            chosen.append((prompt, request))
    require(
        bool(chosen),
        f"no prompt has at most {room} tokens (the longest has {longest}): allow longer ones with "
        "--max-prompt-tokens, or fewer new ones with --max-new-tokens",
    )
    return chosen


def _room(engine: Engine, max_new_tokens: int, max_prompt_tokens: int | None) -> int | None:
    """Most tokens of a prompt; None is no limit."""
    limits = [max_prompt_tokens]
    if engine.target.max_context is not None:
        limits.append(engine.target.max_context - max_new_tokens)
    return min((limit for limit in limits if limit is not None), default=None)


def _encode(prompt: BenchPrompt, engine: Engine) -> list[int]:
    tokenizer = engine.tokenizer
    require(tokenizer is not None, "tasks are text and this model has no tokenizer: add its files")
    is_chat = tokenizer is not None and tokenizer.chat_template is not None and not prompt.is_raw
    message = [{"role": "user", "content": prompt.text}]
    return encode_prompt(message if is_chat else prompt.text, tokenizer).token_ids
