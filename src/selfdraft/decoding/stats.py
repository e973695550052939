"""What a generation cost and what the draft was worth."""

from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Stats:
    """Counts and seconds of one request. Seconds are wall time with the device synchronised."""

    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    num_rounds: int = 0
    num_drafted: int = 0
    """Drafted positions: siblings are not counted, so that a rate above 1 cannot hide."""
    num_accepted: int = 0
    """Drafted tokens that were kept; bonus tokens are not counted."""
    num_accepted_siblings: int = 0
    """Of them, those that are not the drafted chain's own token, but another of its position."""
    drafted_by_depth: list[int] = field(default_factory=list)
    """Entry d: rounds that drafted more than d positions; `num_drafted` is the sum."""
    accepted_by_depth: list[int] = field(default_factory=list)
    """Entry d: rounds whose accepted path has more than d drafted tokens, before any cut."""
    prefill_seconds: float = 0.0
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    search_seconds: float = 0.0
    """What drafters did between rounds: learning from them, and looking for a better draft."""
    decode_seconds: float = 0.0
    """All rounds, from the end of prefill: drafting, verification, search and what lies between."""

    @property
    def acceptance_rate(self) -> float:
        """Accepted / drafted positions over the whole request; 0 without a draft."""
        return self.num_accepted / self.num_drafted if self.num_drafted else 0.0

    @property
    def mean_accepted_length(self) -> float:
        """New tokens per round, the bonus token included (M); 1 without a draft."""
        return self.num_new_tokens / self.num_rounds if self.num_rounds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second of decoding; prefill is not counted."""
        return self.num_new_tokens / self.decode_seconds if self.decode_seconds else 0.0

    def count_round(self, num_drafted: int, num_accepted: int) -> None:
        """Count a round that drafted so many positions and accepted the first so many of them."""
        self.num_rounds += 1
        self.num_drafted += num_drafted
        missing = num_drafted - len(self.drafted_by_depth)
        self.drafted_by_depth += [0] * missing
        self.accepted_by_depth += [0] * missing
        for depth in range(num_drafted):
            self.drafted_by_depth[depth] += 1
            self.accepted_by_depth[depth] += depth < num_accepted

    def as_dict(self) -> dict[str, int | float | list[int]]:
        """Every count, time and rate by name."""
        return asdict(self) | {
            "acceptance_rate": self.acceptance_rate,
            "mean_accepted_length": self.mean_accepted_length,
            "tokens_per_second": self.tokens_per_second,
        }
