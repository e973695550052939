"""Drafts that a search found worth keeping, on disk for each model.

    <cache>/drafts/WEIGHTS.json

A file belongs to the weights: another version of a library or another device changes what a draft
costs, not what it predicts. It is meant to be read by people, too. Several processes may search at
once: each adds to what is in the file when it writes, under a lock, and none loses the others'
records. What is on disk is a hint: whoever recalls a draft scores it again on the text at hand.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from filelock import FileLock

from selfdraft.errors import SkipSetError
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.structure.sublayers import DecoderLayers
from selfdraft.storage.json_document import (
    DamagedDocumentError,
    read_document,
    set_aside,
    write_document,
)
from selfdraft.storage.model_cache import cache_home
from selfdraft.storage.progress import first_line, say

_FORMAT = 1
_MOST_OF_A_DOMAIN = 4
_MOST = 16
_LOCK_SECONDS = 10.0
_BITS = (16, 8, 4)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDraft:
    """One remembered draft: what it skips, how good it was, and on which kind of text."""

    skip_set: SkipSet
    weight_bits: int = 16
    matchness: float
    """Share of the compared tokens that the draft would have written too."""
    predicted_speedup: float | None = None
    """Tokens per second over vanilla's, by the costs of the machine that measured it."""
    num_proposals: int = 0
    """Proposals that the search had scored by then."""
    domain: str | None = None
    """What kind of text this was, if somebody said so."""
    signature: tuple[float | str, ...] = ()
    """The kind of text in numbers or hashes, whose meaning its maker knows."""
    date: str = ""
    """The day it was written, in UTC; empty is today."""
    selfdraft_version: str = ""
    """Empty is the one that runs."""

    def __post_init__(self) -> None:
        if not self.date:
            object.__setattr__(self, "date", _today())
        if not self.selfdraft_version:
            object.__setattr__(self, "selfdraft_version", version("selfdraft"))

    @property
    def _draft(self) -> tuple[object, ...]:
        """Equal for two records of one draft on one kind of text: the newer one replaces."""
        return self.skip_set, self.weight_bits, self.domain

    @property
    def _worth(self) -> tuple[float, float]:
        return self.predicted_speedup or 0.0, self.matchness

    def to_document(self) -> dict[str, object]:
        """Plain data, ready for JSON."""
        named = asdict(self)
        named["skip_set"] = {
            "attention": list(self.skip_set.attention),
            "mlp": list(self.skip_set.mlp),
        }
        return named | {"signature": list(self.signature)}

    @classmethod
    def from_document(cls, document: Any) -> "StoredDraft":
        """What `to_document` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not write this.
        """
        named = {field.name: document[field.name] for field in fields(cls)}
        skips = named["skip_set"]
        _require(isinstance(skips, dict), "skip_set is no object")
        named["skip_set"] = SkipSet(skips["attention"], skips["mlp"])
        _require(isinstance(named["signature"], list), "signature is no list")
        named["signature"] = tuple(named["signature"])
        draft = cls(**named)
        draft._require_sound()
        return draft

    def _require_sound(self) -> None:
        _require(self.weight_bits in _BITS, f"weight_bits is {self.weight_bits!r}")
        _require(_is_number(self.matchness) and 0 <= self.matchness <= 1, "matchness is no share")
        speedup = self.predicted_speedup
        _require(speedup is None or _is_number(speedup), "predicted_speedup is no number")
        _require(type(self.num_proposals) is int, "num_proposals is no integer")
        _require(self.domain is None or isinstance(self.domain, str), "domain is no text")
        _require(
            all(_is_number(part) or isinstance(part, str) for part in self.signature),
            "signature is no list of numbers or texts",
        )
        _require(isinstance(self.date, str), "date is no text")
        _require(isinstance(self.selfdraft_version, str), "selfdraft_version is no text")


class DraftStore:
    """The remembered drafts of one model, named by `Fingerprint.weights`.

    Where the cache folder cannot be written, they are kept in memory, and that is said once.
    """

    def __init__(self, weights: str) -> None:
        self.file = cache_home() / "drafts" / f"{weights[:32]}.json"
        self._weights = weights
        self._drafts: tuple[StoredDraft, ...] = ()
        self._is_in_memory = False

    def drafts(self) -> tuple[StoredDraft, ...]:
        """Every remembered draft, the best first."""
        if not self._is_in_memory:
            self._drafts = _best([*self._drafts, *self._read()])
        return self._drafts

    def fitting(self, layers: DecoderLayers) -> tuple[tuple[StoredDraft, ...], dict[int, str]]:
        """The drafts that a model with `layers` can run, and by index why the others cannot."""
        fitting, reasons = [], {}
        for index, draft in enumerate(self.drafts()):
            try:
                layers.require_skippable(draft.skip_set)
                fitting.append(draft)
            except SkipSetError as error:
                reasons[index] = str(error)
        return tuple(fitting), reasons

    def remember(self, *drafts: StoredDraft) -> None:
        """Add `drafts` to what is on disk; of one draft on one domain the newest record stays."""
        for draft in drafts:
            draft._require_sound()
        if not self._is_in_memory:
            try:
                self._merge(drafts)
                return
            except (OSError, NotImplementedError) as error:  # a Timeout of the lock is an OSError
                self._is_in_memory = True
                say(
                    f"{self.file} cannot be written ({first_line(error)}): drafts are remembered "
                    "until this process ends; SELFDRAFT_HOME names another folder"
                )
        self._drafts = _best([*self._drafts, *drafts])

    def _merge(self, drafts: Iterable[StoredDraft]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.file.with_name(f".{self.file.name}.lock"), timeout=_LOCK_SECONDS)
        with lock:
            kept = _best([*self._read(), *drafts])
            records = [draft.to_document() for draft in kept]
            content = {"weights": self._weights, "drafts": records}
            write_document(self.file, content, format_number=_FORMAT)
        self._drafts = kept

    def _read(self) -> list[StoredDraft]:
        try:
            document = read_document(self.file, format_number=_FORMAT)
            return [] if document is None else _records(document, self._weights)
        except DamagedDocumentError as error:
            set_aside(self.file, error)
            return []


def import_collection(text: str) -> dict[str, SkipSet]:
    """Every set of a collection `{name: {"attention": [...], "mlp": [...]}}`.

    This is the reference implementation's `skip_layers.json`; what is no set in it is passed over.

    Raises:
        SkipSetError: the text is not JSON, or has no skip set.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SkipSetError(f"skip sets are not valid JSON ({error})") from error
    sets = document.items() if isinstance(document, dict) else ()
    found = {
        name: SkipSet(entry["attention"], entry["mlp"])
        for name, entry in sets
        if isinstance(entry, dict) and {"attention", "mlp"} <= entry.keys()
    }
    if not found:
        raise SkipSetError(
            'there is no skip set: write {"NAME": {"attention": [layer, ...], "mlp": [layer, ...]}}'
        )
    return found


def export_collection(sets: Mapping[str, SkipSet]) -> str:
    """The text that `import_collection` and the reference implementation read."""
    return json.dumps({name: json.loads(skip_set.to_json()) for name, skip_set in sets.items()})


def _records(document: dict[str, Any], weights: str) -> list[StoredDraft]:
    records = document.get("drafts")
    if document.get("weights") != weights or not isinstance(records, list):
        raise DamagedDocumentError("it has no drafts of these weights")
    try:
        return [StoredDraft.from_document(record) for record in records]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedDocumentError(f"a draft cannot be read ({error!r})") from error


def _best(drafts: Iterable[StoredDraft]) -> tuple[StoredDraft, ...]:
    """The best few of each domain, and of all; of equal drafts the one that comes last."""
    newest = {draft._draft: draft for draft in drafts}
    kept: list[StoredDraft] = []
    num_of_domain: dict[str | None, int] = {}
    for draft in sorted(newest.values(), key=lambda draft: draft._worth, reverse=True):
        num_of_domain[draft.domain] = num_of_domain.get(draft.domain, 0) + 1
        if num_of_domain[draft.domain] <= _MOST_OF_A_DOMAIN:
            kept.append(draft)
    return tuple(kept[:_MOST])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
