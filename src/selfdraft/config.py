"""What a user can set, validated where it is made. Each default exists once, here."""

from dataclasses import dataclass

from selfdraft.errors import ConfigError

def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How the next token is chosen from the target's logits. `temperature` 0 is greedy decoding.

    The filters mean what they mean in transformers, and are applied by its own logits processors.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.temperature >= 0, f"temperature is {self.temperature}: give 0 (greedy) or more")
        require(0 < self.top_p <= 1, f"top_p is {self.top_p}: give a number in (0, 1]; 1 is off")
        require(self.top_k >= 0, f"top_k is {self.top_k}: give 0 (off) or more")
        require(0 <= self.min_p <= 1, f"min_p is {self.min_p}: give a number in [0, 1]; 0 is off")
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty is {self.repetition_penalty}: give a number above 0; 1 is off",
        )
        require(0 <= self.seed < 2**64, f"seed is {self.seed}: give a whole number in [0, 2**64)")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopConfig:
    """When a generation ends, apart from the target's end-of-sequence tokens."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            self.max_new_tokens >= 1, f"max_new_tokens is {self.max_new_tokens}: give 1 or more"
        )
        require(all(self.stop), "stop holds an empty string: leave it out")
