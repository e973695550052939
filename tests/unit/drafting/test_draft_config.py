"""What can be set about the draft, and what the presets are."""

import pytest

from selfdraft import DraftConfig
from selfdraft.errors import ConfigError


def test_defaults_are_those_of_the_paper() -> None:
    """Guards against a preset `swift` that drifts from SWIFT, section 4.2."""
    config = DraftConfig()
    assert (config.skip_ratio, config.stop_confidence, config.max_draft_steps) == (0.45, 0.8, 25)
    wide = [(0.1, 10), (0.5, 10), (0.51, 5), (0.8, 5), (0.9, 3), (0.95, 3), (0.96, 1), (1.0, 1)]
    assert [(c, config.num_candidates(c)) for c, _ in wide] == wide


def test_chain_is_fixed_and_has_no_siblings() -> None:
    """Guards against a chain that stops early or branches."""
    chain = DraftConfig.chain(7)
    assert (chain.stop_confidence, chain.max_draft_steps) == (0.0, 7)
    assert {chain.num_candidates(c / 10) for c in range(11)} == {1}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("skip_ratio", -0.1),
        ("skip_ratio", 1.1),
        ("stop_confidence", -0.1),
        ("stop_confidence", 1.1),
        ("max_draft_steps", 0),
        ("max_draft_steps", 32),
        ("sibling_counts", ((0.8, 2), (0.5, 3))),
        ("sibling_counts", ((0.5, 0),)),
        ("skip_ratio", float("nan")),
        ("weight_bits", 5),
    ],
)
def test_out_of_range(option: str, value: object) -> None:
    """Guards against a draft that can never propose, or whose levels are never reached."""
    with pytest.raises(ConfigError, match=option):
        DraftConfig(**{option: value})
