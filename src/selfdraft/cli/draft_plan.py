"""What a draft leaves out, in words."""

from typing import TYPE_CHECKING

from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.model.skip_set import SkipSet

if TYPE_CHECKING:
    from selfdraft.drafts import Draft
    from selfdraft.engine import Engine


def skip_set_of(engine: "Engine", draft: "Draft") -> SkipSet | None:
    """The sublayers that `draft` skips now on this engine's model; None for plain decoding."""
    plan = engine.drafts.plan(draft)
    return None if plan is None else plan.skip_set


def describe(engine: "Engine", draft: "Draft") -> str:
    """For example `swift: skips 13 attention + 13 MLP sublayers (of 56)`."""
    plan = engine.drafts.plan(draft)
    if draft == "off":
        return "off: plain decoding"
    name = "given draft" if isinstance(draft, DraftConfig) else draft
    if draft == "suffix":
        return "suffix: copies from the text so far"
    if draft == "recycling":
        return "recycling: runners-up of earlier choices"
    if plan is None:
        return f"{name}: plain decoding, as no model draft is known to pay"
    num_eligible = 2 * len(engine.target.layers.eligible)
    of_all = f" (of {num_eligible})" if plan.skip_set.num_skipped else ""
    return f"{name}: {plan.describe()}{of_all}"
