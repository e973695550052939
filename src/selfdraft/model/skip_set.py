"""A skip set: the attention and MLP sublayers that a draft leaves out (SWIFT, section 4.1)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from selfdraft.errors import SkipSetError

_EXPECTED = (
    'skip set lacks the keys "attention" and "mlp": write '
    '{"attention": [layer, ...], "mlp": [layer, ...]}'
)


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class SkipSet:
    """Indices of decoder layers whose attention, and whose MLP, a draft bypasses; both sorted."""

    attention: tuple[int, ...] = ()
    mlp: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", _layer_indices("attention", self.attention))
        object.__setattr__(self, "mlp", _layer_indices("mlp", self.mlp))

    @property
    def num_skipped(self) -> int:
        """Skipped sublayers, attention and MLP together."""
        return len(self.attention) + len(self.mlp)

    @classmethod
    def uniform(cls, eligible_layers: Iterable[int], skip_ratio: float) -> "SkipSet":
        """Both sublayers of evenly spread layers: where the search starts (SWIFT, section 4.1)."""
        layers = list(eligible_layers)
        chosen = evenly_spread(layers, round(len(layers) * skip_ratio))
        return cls(chosen, chosen)

    @classmethod
    def from_json(cls, text: str, name: str | None = None) -> "SkipSet":
        """Read one skip set, or pick one from a collection.

        One set is `{"attention": [...], "mlp": [...]}`. A collection, the format of the reference
        implementation's `skip_layers.json`, is `{name: set, ...}`; of several, `name` picks one.

        Raises:
            SkipSetError: the text is neither, or it does not say which set is meant.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise SkipSetError(f"skip set is not valid JSON ({error})") from error
        if not isinstance(document, dict):
            raise SkipSetError(_EXPECTED)
        if _is_one_set(document):
            return cls(document["attention"], document["mlp"])
        named = {key: value for key, value in document.items() if _is_one_set(value)}
        if not named:
            raise SkipSetError(_EXPECTED)
        if name is None and len(named) == 1:
            name = next(iter(named))
        if name not in named:
            problem = "it has several skip sets" if name is None else f"it has no set {name!r}"
            raise SkipSetError(
                f"{problem}: append #NAME to the file, with NAME one of {', '.join(sorted(named))}"
            )
        return cls(named[name]["attention"], named[name]["mlp"])

    @classmethod
    def load(cls, path: str | Path) -> "SkipSet":
        """Read a skip set from a JSON file; `FILE#NAME` picks one of a collection."""
        file, _, name = str(path).partition("#")
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SkipSetError(f"cannot read the skip set {file}: {error}") from error
        try:
            return cls.from_json(text, name or None)
        except SkipSetError as error:
            raise SkipSetError(f"{file}: {error}") from error

    def to_json(self) -> str:
        """The document that `from_json` reads."""
        return json.dumps({"attention": list(self.attention), "mlp": list(self.mlp)})


def evenly_spread(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """`count` of the items, in their order, the first among them; gaps differ by at most one."""
    return tuple(items[i * len(items) // count] for i in range(count))


def _layer_indices(kind: str, layers: object) -> tuple[int, ...]:
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        raise SkipSetError(f"skip set's {kind} is {layers!r}: give a list of layer indices")
    indices = tuple(layers)
    if any(not isinstance(index, int) or isinstance(index, bool) or index < 0 for index in indices):
        raise SkipSetError(f"skip set's {kind} is {list(indices)}: layer indices are 0, 1, 2, ...")
    return tuple(sorted(set(indices)))


def _is_one_set(document: object) -> bool:
    return isinstance(document, dict) and {"attention", "mlp"} <= document.keys()
