"""What a user can set about the search for a draft."""

from dataclasses import dataclass

from selfdraft.config import require


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How skip sets are looked for while text is generated.

    The defaults are the preset `auto`; `SearchConfig.swift()` is the paper's optimisation phase
    (SWIFT, section 4.1 and appendix), whose symbols stand beside the fields.
    """

    skip_ratio: float | None = None  # of every set (r); None: whatever is fastest
    context_window: int = 32  # latest generated tokens that a set is scored on (gamma)
    bayes_interval: int | None = None  # every such proposal is the optimiser's (beta); None: none
    max_proposals: int = 1000  # then the search is over (S)
    patience: int = 60  # proposals without a better set, then the search rests
    stop_matchness: float = 1.0  # good enough to stop, at a fixed skip ratio
    time_share: float | None = 0.05  # of decode time that the search may use; None: no limit
    is_adaptive: bool = True  # start again when acceptance drops, remember sets
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.skip_ratio is None or 0 <= self.skip_ratio <= 1,
            f"skip_ratio is {self.skip_ratio}: give 0 to 1, or None to have it found",
        )
        require(
            self.context_window >= 1, f"context_window is {self.context_window}: give 1 or more"
        )
        require(
            self.bayes_interval is None or self.bayes_interval >= 1,
            f"bayes_interval is {self.bayes_interval}: give 1 or more, or None",
        )
        require(self.max_proposals >= 1, f"max_proposals is {self.max_proposals}: give 1 or more")
        require(self.patience >= 1, f"patience is {self.patience}: give 1 or more")
        require(
            0 <= self.stop_matchness <= 1,
            f"stop_matchness is {self.stop_matchness}: give 0 to 1",
        )
        require(
            self.time_share is None or 0 < self.time_share <= 1,
            f"time_share is {self.time_share}: give a share in (0, 1], or None for no limit",
        )

    @classmethod
    def swift(cls) -> "SearchConfig":
        """The paper's search: its numbers, its proposals, and no second start."""
        return cls(
            skip_ratio=0.45,
            bayes_interval=25,
            patience=300,
            stop_matchness=0.95,
            time_share=None,
            is_adaptive=False,
        )
