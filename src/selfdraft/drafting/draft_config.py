"""What a user can set about the draft."""

from dataclasses import dataclass

from selfdraft.config import require
from selfdraft.decoding.token_tree import MAX_NODES
from selfdraft.model.draft_plan import WeightBits, require_weight_bits
from selfdraft.model.skip_set import SkipSet


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftConfig:
    """How the skipped model drafts. The defaults are the preset `swift` (SWIFT, section 4.2).

    `sibling_counts` lists (confidence, k) pairs in rising order: a position whose draft
    confidence is at most `confidence` gets its k best tokens, the drafted one among them, as
    nodes of the token tree. An empty tuple makes a plain chain.
    """

    skip_set: SkipSet | None = None  # None: spread evenly over the model at `skip_ratio`
    skip_ratio: float = 0.45  # skipped / eligible sublayers (r)
    weight_bits: WeightBits = 16  # of the draft's weights; 16: the target's own
    stop_confidence: float = 0.8  # stop drafting after a token below it (epsilon)
    max_draft_steps: int = 25  # longest draft (the paper's maximum K)
    sibling_counts: tuple[tuple[float, int], ...] = ((0.5, 10), (0.8, 5), (0.95, 3), (1.0, 1))

    def __post_init__(self) -> None:
        require(0 <= self.skip_ratio <= 1, f"skip_ratio is {self.skip_ratio}: give 0 to 1")
        require_weight_bits(self.weight_bits)
        require(
            0 <= self.stop_confidence <= 1,
            f"stop_confidence is {self.stop_confidence}: give 0 (never stop early) to 1",
        )
        require(
            1 <= self.max_draft_steps < MAX_NODES,
            f"max_draft_steps is {self.max_draft_steps}: give 1 to {MAX_NODES - 1}, or draft='off'",
        )
        levels = [level for level, _ in self.sibling_counts]
        require(
            levels == sorted(levels) and all(count >= 1 for _, count in self.sibling_counts),
            f"sibling_counts is {self.sibling_counts}: give (confidence, k) pairs in rising order "
            "of confidence, with k of 1 or more",
        )

    def num_candidates(self, confidence: float) -> int:
        """Nodes at a position drafted with `confidence`: the drafted token and its siblings."""
        for level, count in self.sibling_counts:
            if confidence <= level:
                return count
        return 1

    @classmethod
    def chain(
        cls,
        num_steps: int,
        *,
        skip_set: SkipSet | None = None,
        skip_ratio: float = 0.45,
        weight_bits: WeightBits = 16,
    ) -> "DraftConfig":
        """A draft of exactly `num_steps` tokens, without early stopping and without siblings."""
        return cls(
            skip_set=skip_set,
            skip_ratio=skip_ratio,
            weight_bits=weight_bits,
            stop_confidence=0.0,
            max_draft_steps=num_steps,
            sibling_counts=(),
        )
