"""What passes cost in tokens, at the rate that time is worth now.

To maximise tokens per second over a whole text, every round should maximise its own tokens minus
`rate` times its seconds, where `rate` is the tokens per second achieved over the text (Dinkelbach
1967). So seconds have a price in tokens, and whatever yields more tokens than its price pays.
"""

from dataclasses import dataclass
from threading import Lock

from selfdraft.drafting.cost_model import CostModel

# A row is never taken to cost less than this share of a plain pass, whatever noise makes of it.
_LEAST_ROW_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in tokens: `verify[n]` of a pass over n rows, `draft_step` of a step of the draft."""

    verify: tuple[float, ...]
    draft_step: float

    @classmethod
    def at(
        cls, costs: CostModel, *, rate: float, context: int, max_rows: int, draft_seconds: float
    ) -> "Prices":
        """Prices behind `context` tokens, for up to `max_rows` rows."""
        first, *more = costs.verify_curve(max_rows, context)
        seconds = [0.0, first]
        for measured in more:
            seconds.append(max(measured, seconds[-1] + _LEAST_ROW_SHARE * first))
        return cls(tuple(rate * s for s in seconds), rate * draft_seconds)

    @property
    def max_rows(self) -> int:
        """The most rows that have a price."""
        return len(self.verify) - 1

    def row(self, num_rows: int) -> float:
        """The price of one more row behind `num_rows`; infinite past the most."""
        if num_rows >= self.max_rows:
            return float("inf")
        return self.verify[num_rows + 1] - self.verify[num_rows]


def chain_worth(
    probability: float,
    expected: float,
    prices: Prices,
    num_rows: int,
    max_steps: int,
    free_worth: float = 0.0,
) -> float:
    """What the best number of further draft steps yields beyond its price, with what follows.

    The tip of the chain is right with `probability`, each drafted token with `expected` if the one
    before it is; the tree has `num_rows` rows so far. What comes for nothing after the last step is
    worth `free_worth` if all the steps are right. Minus infinity if no step is possible.
    """
    worth, share = 0.0, 1.0
    best = float("-inf")
    for step in range(max_steps):
        share *= expected
        gain = probability * share - prices.draft_step - prices.row(num_rows + step)
        worth += gain
        best = max(best, worth + share * free_worth)
        if probability * share <= prices.draft_step:
            break
    return best


class Rate:
    """Tokens per second of the recent rounds, by predicted costs; at least those without a draft.

    Predicted, not measured, so that one slow round does not change what is drafted.
    """

    _FIRST_PASSES = 4.0  # plain passes that the start is worth

    def __init__(self, start: float = 1.0, *, num_rounds: int = 32) -> None:
        """`start`: tokens in the time of a plain pass, as far as is known before the first round.

        A request starts from the rate of all before it: plain decoding would make its time look
        cheap, and have it draft too far. It ends with its own, for what it has to write is the
        same, however fast others were. Rounds are forgotten after `num_rounds`, roughly.
        """
        self._decay = 1 - 1 / num_rounds
        self._tokens = start * self._FIRST_PASSES
        self._plain_passes = self._FIRST_PASSES
        self._lock = Lock()

    def count(self, num_tokens: int, plain_passes: float) -> None:
        """A round wrote `num_tokens` in the time of so many plain passes."""
        with self._lock:
            self._tokens = self._decay * self._tokens + num_tokens
            self._plain_passes = self._decay * self._plain_passes + plain_passes

    def tokens_per_plain_pass(self) -> float:
        """The speed-up over plain decoding, and at least 1."""
        with self._lock:
            return max(1.0, self._tokens / self._plain_passes)
