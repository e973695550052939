"""Methods: ways to write the same text, behind one protocol, so that they can be timed in turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeVar, cast

from selfdraft.decoding.stopwatch import now
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafts import Draft, Drafts
from selfdraft.engine import Engine
from selfdraft.errors import ConfigError, UnsupportedModelError
from selfdraft.model.draft_plan import DraftPlan, WeightBits
from selfdraft.model.skip_set import SkipSet

VANILLA: Final = "off"
PLAIN = "transformers"

_Number = TypeVar("_Number", int, float)

Family = Literal["selfdraft", "transformers", "peer"]


@dataclass(frozen=True, slots=True)
class Request:
    """What every method is asked in the same way."""

    token_ids: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """What a method wrote and how long it took. Seconds count from the call."""

    token_ids: tuple[int, ...]
    total_seconds: float
    """Everything from the call to the last token."""
    prefill_seconds: float | None
    decode_seconds: float | None
    """None, as the prefill, where the method only knows the whole."""
    num_decoded: int
    """Tokens that were written during `decode_seconds`."""
    timeline: tuple[tuple[float, int], ...]
    """(seconds, tokens so far), each time that tokens came."""
    num_rounds: int | None = None
    """Passes of the target that wrote tokens, where the method shows them."""
    stats: dict[str, object] = field(default_factory=dict)
    """The engine's own statistics; empty for other methods."""


class Method(Protocol):
    """One way to write the text."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def family(self) -> Family:
        """Whose it is; the contract is compared within a family."""
        ...

    def run(self, request: Request) -> Output:
        """Write the text of one request."""
        ...


class EngineMethod:
    """The engine with one of its drafts."""

    family: Family = "selfdraft"

    def __init__(self, name: str, engine: Engine, draft: Draft) -> None:
        self.name = name
        self.engine = engine
        self.draft = draft

    def run(self, request: Request) -> Output:
        """Stream the output, and note when tokens came."""
        start = now(self.engine.target.device)
        generation = self.engine.stream(
            list(request.token_ids),
            draft=self.draft,
            max_new_tokens=request.max_new_tokens,
            temperature=request.temperature,
            seed=request.seed,
        )
        timeline: list[tuple[float, int]] = []
        num_tokens = 0
        for piece in generation:
            num_tokens += len(piece.token_ids)
            timeline.append((time.perf_counter() - start, num_tokens))
        total_seconds = now(self.engine.target.device) - start
        result = generation.result
        stats = result.stats
        return Output(
            token_ids=result.token_ids,
            total_seconds=total_seconds,
            prefill_seconds=stats.prefill_seconds,
            decode_seconds=stats.decode_seconds,
            num_decoded=stats.num_new_tokens,
            timeline=merge_times(timeline),
            num_rounds=stats.num_rounds,
            stats=dict(stats.as_dict()),
        )


def parse_draft(name: str) -> Draft:
    """The draft that a method's name stands for; names that the engine knows pass through.

    Raises:
        SkipSetError: the file of `skip-set=FILE` cannot be used.
        ConfigError: what follows `skip-ratio=` or `bits=` is no number, or out of range.
    """
    kind, _, value = name.partition("=")
    if kind == "skip-set":
        return DraftConfig(skip_set=SkipSet.load(value))
    if kind == "skip-ratio":
        return DraftConfig(skip_ratio=_number(name, value, float))
    if kind == "bits":
        # The config checks which numbers of bits there are.
        bits = cast(WeightBits, _number(name, value, int))
        return DraftConfig(weight_bits=bits, skip_set=SkipSet())
    return cast(Draft, name)


def _number(name: str, value: str, kind: Callable[[str], _Number]) -> _Number:
    try:
        return kind(value)
    except ValueError as error:
        raise ConfigError(f"method {name!r}: write a number after =") from error


def engine_method(name: str, engine: Engine) -> EngineMethod:
    """The method `name` on this engine.

    Raises:
        ConfigError: neither we nor the engine know the name, or the model cannot have the draft.
    """
    # With drafts of its own: methods that learned together would learn the text from each other.
    own = engine.with_drafts(Drafts(engine.target))
    method = EngineMethod(name, own, parse_draft(name))
    try:
        own.drafter(method.draft)
    except (ConfigError, UnsupportedModelError) as error:
        raise ConfigError(
            f"method {name!r} cannot be used ({error}); the others are transformers, "
            "transformers-lookup, transformers-assisted, transformers-early-exit, auto-no-copy, "
            "unpacked, skip-set=FILE, skip-ratio=R, bits=N and peer=NAME"
        ) from error
    return method


def plan_of(engine: Engine, draft: Draft) -> DraftPlan | None:
    """How a draft makes the target cheaper from the start, where it has such a plan."""
    return engine.drafts.plan(draft)


def merge_times(timeline: Sequence[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """One entry per round: pieces of one round come within microseconds of each other."""
    merged: list[tuple[float, int]] = []
    for seconds, num_tokens in timeline:
        if merged and seconds - merged[-1][0] < 1e-3:
            merged[-1] = (merged[-1][0], num_tokens)
        else:
            merged.append((seconds, num_tokens))
    return tuple((round(seconds, 6), num_tokens) for seconds, num_tokens in merged)
