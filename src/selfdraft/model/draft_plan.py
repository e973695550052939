"""A draft plan: how the target is made cheaper, which names one draft of it."""

from dataclasses import dataclass, field
from typing import Literal, TypeGuard, get_args

from selfdraft.config import require
from selfdraft.errors import ConfigError
from selfdraft.model.skip_set import SkipSet

WeightBits = Literal[16, 8, 4]
"""Bits of a draft's weights; 16 are the target's own weights, whatever their dtype is."""


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """Which sublayers a draft leaves out, and the bits of the weights it runs with."""

    skip_set: SkipSet = field(default_factory=SkipSet)
    weight_bits: WeightBits = 16

    def __post_init__(self) -> None:
        is_set = isinstance(self.skip_set, SkipSet)
        require(is_set, f"skip_set is {self.skip_set!r}: give a SkipSet")
        require_weight_bits(self.weight_bits)

    @property
    def is_target(self) -> bool:
        """Whether nothing is made cheaper."""
        return self.weight_bits == 16 and self.skip_set.num_skipped == 0

    @classmethod
    def from_dict(cls, document: object) -> "DraftPlan":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: it is something else.
        """
        if not isinstance(document, dict) or not document.keys() >= {"skip_set", "weight_bits"}:
            raise ConfigError(
                f"draft plan is {document!r}: write "
                '{"skip_set": {"attention": [layer, ...], "mlp": [layer, ...]}, "weight_bits": 16}'
            )
        skip_set, bits = document["skip_set"], document["weight_bits"]
        if not isinstance(skip_set, dict) or not skip_set.keys() >= {"attention", "mlp"}:
            raise ConfigError(f'draft plan\'s skip_set is {skip_set!r}: give "attention" and "mlp"')
        return cls(SkipSet(skip_set["attention"], skip_set["mlp"]), bits)

    def to_dict(self) -> dict[str, object]:
        """The plan as plain data, ready for JSON."""
        layers = {"attention": list(self.skip_set.attention), "mlp": list(self.skip_set.mlp)}
        return {"skip_set": layers, "weight_bits": self.weight_bits}

    def describe(self) -> str:
        """For example `4-bit weights, skips 3 attention + 2 MLP sublayers`."""
        parts = []
        if self.weight_bits != 16:
            parts.append(f"{self.weight_bits}-bit weights")
        if self.skip_set.num_skipped:
            num_attention, num_mlp = len(self.skip_set.attention), len(self.skip_set.mlp)
            parts.append(f"skips {num_attention} attention + {num_mlp} MLP sublayers")
        return ", ".join(parts) or "the target itself"


def require_weight_bits(bits: object) -> None:
    """Raise `ConfigError` unless a draft's weights can have so many bits."""
    require(_is_weight_bits(bits), f"weight_bits is {bits!r}: give 16 (the target's own), 8 or 4")


def _is_weight_bits(bits: object) -> TypeGuard[WeightBits]:
    return isinstance(bits, int) and not isinstance(bits, bool) and bits in get_args(WeightBits)
