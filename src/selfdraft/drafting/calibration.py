"""How often each kind of draft is right: learned from what the target went on to write.

Every drafted token has a key, such as its drafter with how sure that was. The table learns, for
each key, the share of tokens that were the target's choice where their parent was kept. So the
probability of a path is the product of its nodes' probabilities.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from threading import Lock

from selfdraft.decoding.token_tree import Source

_PRIOR_WEIGHT = 4.0  # outcomes that a prior is worth
_MEMORY = 64  # outcomes of a key that are remembered, roughly
_MAX_KEYS = 4096


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may come next, the kind of draft that it is, and a guess for that kind.

    `family` is a wider kind, whose probability is the guess for a key that is new: the same
    confidence by any plan, say, where the key names the plan.
    """

    token_id: int
    key: Hashable
    prior: float
    family: Hashable = None
    source: Source = "model"


@dataclass(slots=True)
class _Record:
    num_hits: float
    num_seen: float


class Calibration:
    """The probability that a candidate of a kind is right. Safe to share between requests.

    Starts from the candidate's own prior, and forgets old outcomes exponentially, because the
    drafts change with the text.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[Hashable, _Record] = OrderedDict()
        self._lock = Lock()

    def probability(self, key: Hashable, prior: float) -> float:
        """The probability of a candidate with this key; `prior` alone for a key never seen."""
        record = self._records.get(key)
        if record is None:
            return prior
        return (record.num_hits + _PRIOR_WEIGHT * prior) / (record.num_seen + _PRIOR_WEIGHT)

    def of(self, candidate: Candidate) -> float:
        """The probability that `candidate` is right if its parent is."""
        prior = candidate.prior
        if candidate.family is not None:
            prior = self.probability(candidate.family, prior)
        return self.probability(candidate.key, prior)

    def num_seen(self, key: Hashable) -> float:
        """Outcomes of the key that are remembered, old ones counted less."""
        record = self._records.get(key)
        return record.num_seen if record else 0.0

    def judge(self, candidates: Iterable[Candidate], choice: int) -> None:
        """The target chose `choice` where `candidates` were drafted."""
        outcomes = []
        for candidate in candidates:
            is_hit = candidate.token_id == choice
            outcomes.append((candidate.key, is_hit))
            if candidate.family is not None:
                outcomes.append((candidate.family, is_hit))
        self.observe(outcomes)

    def observe(self, outcomes: Iterable[tuple[Hashable, bool]]) -> None:
        """Candidates with these keys turned out to be the target's choice, or not."""
        with self._lock:
            for key, is_hit in outcomes:
                record = self._records.get(key)
                if record is None:
                    record = self._records[key] = _Record(0.0, 0.0)
                    if len(self._records) > _MAX_KEYS:
                        self._records.popitem(last=False)
                decay = 1 - 1 / _MEMORY
                record.num_hits = record.num_hits * decay + is_hit
                record.num_seen = record.num_seen * decay + 1.0
                self._records.move_to_end(key)
