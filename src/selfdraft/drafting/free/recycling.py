"""Token Recycling: what the target thought could follow a token, kept for the next time it comes.

Verification computes logits after every node, of which one token each is used. The runners-up are
thrown away by other methods; here the best few after each token are kept (Luo et al. 2024,
arXiv 2408.08696), and proposed where that token comes up again. Beyond the paper: they are kept
after each pair of tokens as well, which says more when the pair is known.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from selfdraft.shapes import Logits

_NUM_SUCCESSORS = 6
_MAX_CONTEXTS = 16384  # of one and of two tokens together; about 8 MB

# A topk takes a tenth of a millisecond a row of 150,000 entries; a round has rows enough without.
_MAX_ROWS = 8

# Gaps are told apart in whole logits, up to this one.
_LARGEST_GAP = 7


@dataclass(frozen=True, slots=True)
class Successors:
    """The target's best tokens after a context of `num_tokens` tokens, best first.

    `gaps[i]` is how many whole logits separate token i from the best one; for the best one itself,
    from the second.
    """

    token_ids: tuple[int, ...]
    gaps: tuple[int, ...]
    num_tokens: int


class SuccessorTable:
    """The latest successors of each token and pair of tokens. Safe to share between requests."""

    def __init__(self, max_contexts: int = _MAX_CONTEXTS) -> None:
        self._max_contexts = max_contexts
        self._known: OrderedDict[tuple[int, ...], Successors] = OrderedDict()
        self._lock = Lock()

    def learn(self, contexts: Sequence[tuple[int, int]], logits: Logits) -> None:
        """Row i of `logits` followed the two tokens `contexts[i]`. The last few rows are kept."""
        contexts, logits = contexts[-_MAX_ROWS:], logits[-_MAX_ROWS:]
        best = logits.topk(min(_NUM_SUCCESSORS, logits.shape[1]))
        rows = zip(contexts, best.indices.tolist(), best.values.tolist(), strict=True)
        with self._lock:
            for (before, last), token_ids, scores in rows:
                gaps = _gaps(scores)
                self._keep((last,), Successors(tuple(token_ids), gaps, 1))
                self._keep((before, last), Successors(tuple(token_ids), gaps, 2))

    def after(self, before: int, last: int) -> Successors | None:
        """What may follow `last`, which follows `before`; None if neither was ever seen."""
        return self._known.get((before, last)) or self._known.get((last,))

    def __len__(self) -> int:
        return len(self._known)

    def _keep(self, context: tuple[int, ...], successors: Successors) -> None:
        self._known[context] = successors
        self._known.move_to_end(context)
        if len(self._known) > self._max_contexts:
            self._known.popitem(last=False)


def _gaps(scores: Sequence[float]) -> tuple[int, ...]:
    best = scores[0]
    # In this order a gap that is not a number, of a model that writes them, counts as large.
    others = [int(min(_LARGEST_GAP, best - score)) for score in scores[1:]]
    return (others[0] if others else _LARGEST_GAP, *others)
