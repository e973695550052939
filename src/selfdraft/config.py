"""What a user can set about one request, validated where it is made. Each default exists once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypedDict

from selfdraft.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


_GREEDY_BELOW = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestConfig:
    """How tokens are chosen from the target's logits, and when to stop.

    The filters mean what they mean in transformers, and are applied by its own logits processors.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0  # 0, or below 1e-6: greedy
    top_p: float = 1.0  # 1: off
    top_k: int = 0  # 0: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off
    seed: int = 0  # of the noise that sampling adds
    stop: str | Sequence[str] | None = ()  # strings that end the text and are left out
    logprobs: int = 0  # alternatives to report for every token; 0: none

    def __post_init__(self) -> None:
        stop = self.stop_strings
        object.__setattr__(self, "stop", stop)
        for name in ("max_new_tokens", "top_k", "seed", "logprobs"):
            value = getattr(self, name)
            is_whole = isinstance(value, Integral) and not isinstance(value, bool)
            require(is_whole, f"{name} is {value!r}: give a whole number")
            object.__setattr__(self, name, int(value))
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            require(
                is_number and math.isfinite(value), f"{name} is {value!r}: give a finite number"
            )
            object.__setattr__(self, name, float(value))  # transformers takes nothing else
        require(all(isinstance(s, str) for s in stop), f"stop is {self.stop!r}: give strings")
        require(
            self.max_new_tokens >= 1, f"max_new_tokens is {self.max_new_tokens}: give 1 or more"
        )
        require(
            self.temperature >= 0, f"temperature is {self.temperature}: give 0 (greedy) or more"
        )
        require(0 < self.top_p <= 1, f"top_p is {self.top_p}: give a number in (0, 1]; 1 is off")
        require(self.top_k >= 0, f"top_k is {self.top_k}: give 0 (off) or more")
        require(0 <= self.min_p <= 1, f"min_p is {self.min_p}: give a number in [0, 1]; 0 is off")
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty is {self.repetition_penalty}: give a number above 0; 1 is off",
        )
        require(0 <= self.seed < 2**64, f"seed is {self.seed}: give a whole number in [0, 2**64)")
        require(all(stop), "stop holds an empty string: leave it out")
        require(self.logprobs >= 0, f"logprobs is {self.logprobs}: give 0 (off) or more")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end the text."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken; dividing by a temperature near 0 would overflow."""
        return self.temperature < _GREEDY_BELOW


class RequestOptions(TypedDict, total=False):
    """The fields of `RequestConfig` as keyword arguments."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: int
    stop: str | Sequence[str] | None
    logprobs: int
