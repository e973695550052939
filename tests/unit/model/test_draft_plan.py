"""Draft plans: names of drafts, which are kept in files and used as keys."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdraft import SkipSet
from selfdraft.errors import ConfigError
from selfdraft.model.draft_plan import DraftPlan

indices = st.lists(st.integers(0, 40), max_size=6)


@given(attention=indices, mlp=indices, bits=st.sampled_from([16, 8, 4]))
def test_a_plan_survives_json(attention: list[int], mlp: list[int], bits: int) -> None:
    """Guards against a stored plan that is another one when it is read."""
    plan = DraftPlan(SkipSet(tuple(attention), tuple(mlp)), bits)
    read = DraftPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert read == plan
    assert hash(read) == hash(plan)


@pytest.mark.parametrize("bits", [3, 0, 32, True, "4", 4.0, None])
def test_other_bits_are_refused(bits: object) -> None:
    """Guards against a plan that is refused only when its draft is made."""
    with pytest.raises(ConfigError, match="weight_bits"):
        DraftPlan(weight_bits=bits)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"skip_set": [1], "weight_bits": 4},
        {"skip_set": {"attention": []}, "weight_bits": 4},
        {"skip_set": {"attention": [], "mlp": [-1]}, "weight_bits": 4},
        {"skip_set": {"attention": [], "mlp": []}, "weight_bits": 5},
    ],
)
def test_what_is_no_plan_is_refused(document: object) -> None:
    """Guards against a damaged file that raises something a caller does not expect."""
    with pytest.raises(ConfigError):
        DraftPlan.from_dict(document)


def test_words() -> None:
    """Guards against a plan that is reported as another one."""
    skips = SkipSet((1, 2), (3,))
    assert DraftPlan().describe() == "the target itself"
    assert DraftPlan(skips).describe() == "skips 2 attention + 1 MLP sublayers"
    assert DraftPlan(weight_bits=8).describe() == "8-bit weights"
    assert DraftPlan(skips, 4).describe() == "4-bit weights, skips 2 attention + 1 MLP sublayers"
    assert [p.is_target for p in (DraftPlan(), DraftPlan(skips), DraftPlan(weight_bits=8))] == [
        True, False, False,
    ]  # fmt: skip
