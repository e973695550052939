"""What a draft leaves out, in words."""

from typing import TYPE_CHECKING

from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.model.skip_set import SkipSet

if TYPE_CHECKING:
    from selfdraft.engine import Draft, Engine


def skip_set_of(engine: "Engine", draft: "Draft") -> SkipSet | None:
    """The sublayers that `draft` skips on this engine's model; None for plain decoding."""
    config = engine.resolve(draft)
    return None if config is None else config.skip_set


def describe(engine: "Engine", draft: "Draft") -> str:
    """For example `swift: skips 13 attention + 13 MLP of 56 sublayers`."""
    skip_set = skip_set_of(engine, draft)
    if skip_set is None:
        return "off: plain decoding" if draft == "off" else "plain decoding: nothing to skip"
    is_given = isinstance(draft, DraftConfig) and draft.skip_set is not None
    num_eligible = 2 * len(engine.target.layers.eligible)
    return (
        f"{'given skip set' if is_given else 'swift'}: skips {len(skip_set.attention)} attention + "
        f"{len(skip_set.mlp)} MLP of {num_eligible} sublayers"
    )
