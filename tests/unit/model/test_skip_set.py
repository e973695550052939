"""Skip sets: what they are, how they are read and written."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdraft import SkipSet
from selfdraft.errors import SkipSetError

indices = st.lists(st.integers(0, 40), max_size=10)


def test_sorted_and_unique() -> None:
    """Guards against two names for one set, which would make two views of it."""
    assert SkipSet((3, 1, 3), (2,)) == SkipSet([1, 3], [2, 2])
    assert hash(SkipSet((3, 1))) == hash(SkipSet((1, 3)))
    assert SkipSet((3, 1, 3), (2,)).num_skipped == 3


@given(attention=indices, mlp=indices)
def test_json_round_trip(attention: list[int], mlp: list[int]) -> None:
    """Guards against a set that is another one after saving and loading."""
    skip_set = SkipSet(tuple(attention), tuple(mlp))
    assert SkipSet.from_json(skip_set.to_json()) == skip_set


@given(num_layers=st.integers(0, 60), skip_ratio=st.floats(0, 1))
def test_uniform_is_spread_evenly(num_layers: int, skip_ratio: float) -> None:
    """Guards against a starting set that leaves out one half of the model."""
    eligible = range(1, num_layers + 1)
    skip_set = SkipSet.uniform(eligible, skip_ratio)
    assert skip_set.attention == skip_set.mlp
    assert len(skip_set.attention) == round(num_layers * skip_ratio)
    assert set(skip_set.attention) <= set(eligible)
    gaps = [b - a for a, b in zip(skip_set.attention, skip_set.attention[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_collection() -> None:
    """Guards against the wrong set of the reference code's `skip_layers.json`."""
    two = json.dumps(
        {"a": {"attention": [1], "mlp": []}, "b": {"attention": [2], "mlp": [3]}, "note": "x"}
    )
    assert SkipSet.from_json(two, "b") == SkipSet((2,), (3,))
    one = json.dumps({"a": {"attention": [1], "mlp": []}})
    assert SkipSet.from_json(one) == SkipSet((1,))
    with pytest.raises(SkipSetError, match="several skip sets: append #NAME .* a, b"):
        SkipSet.from_json(two)
    with pytest.raises(SkipSetError, match="no set 'c'"):
        SkipSet.from_json(two, "c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"attention": [1]}',
        '{"a": {}}',
        '{"attention": 1, "mlp": []}',
        '{"attention": "12", "mlp": []}',
        '{"attention": [-1], "mlp": []}',
        '{"attention": [1.5], "mlp": []}',
        '{"attention": [true], "mlp": []}',
        '{"attention": [], "mlp": null}',
        '{"attention": [[1]], "mlp": []}',
    ],
)
def test_malformed(text: str) -> None:
    """Guards against a file that is half understood."""
    with pytest.raises(SkipSetError):
        SkipSet.from_json(text)


def test_load(tmp_path: Path) -> None:
    """Guards against an error that does not say which file is wrong."""
    path = tmp_path / "sets.json"
    path.write_text(
        '{"a": {"attention": [1], "mlp": []}, "b": {"attention": [2], "mlp": []}}',
        encoding="utf-8",
    )
    assert SkipSet.load(f"{path}#b") == SkipSet((2,))
    with pytest.raises(SkipSetError, match=r"sets\.json: it has several"):
        SkipSet.load(path)
    with pytest.raises(SkipSetError, match="cannot read"):
        SkipSet.load(tmp_path / "none.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SkipSetError, match="cannot read"):
        SkipSet.load(path)
