"""What passes of a model cost on this machine, and what speed that allows drafts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from selfdraft.model.draft_plan import DraftPlan
from selfdraft.search.pass_costs import (
    TARGET,
    measure_passes,
    measure_read_bandwidth,
    rising,
    seconds_of_rows,
)
from selfdraft.search.speed_objective import break_even, ceiling, predict
from selfdraft.search.store import DraftStore, StoredDraft

if TYPE_CHECKING:
    from selfdraft.engine import Engine

CONTEXT = 256
"""Cached tokens behind which passes are timed."""
NUM_ROWS = (1, 2, 4, 8, 16)
SKIP_RATIO = 0.3
ACCEPTANCES = (0.95, 0.8)
"""Shares of drafted tokens that are right, for which speeds are told."""

_REMEMBERED = "remembered set"


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCost:
    """One draft: what a step costs, and the speeds over plain decoding that this allows."""

    name: str
    weight_bits: int
    num_skipped: int
    step_seconds: float
    relative_cost: float
    """Of a draft step, over a plain step."""
    step_bytes: int
    """Of weights that a step reads, about."""
    break_even: float | None
    """The acceptance from which on the draft pays; None: it never does."""
    ceilings: dict[float, float]
    """By acceptance, the speedup if the draft always stopped just before its first error."""
    remembered_acceptance: float | None = None
    """What a search saw of this draft; None: nothing is known."""
    remembered_ceiling: float | None = None
    predicted_speedup: float | None = None
    """At the remembered acceptance, for chains of the best fixed length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Measured costs, as `selfdraft inspect --costs` shows them."""

    context: int
    num_threads: int | None
    """Of the CPU; None on another device."""
    check_seconds: dict[int, float]
    """Of a pass of the target, by its rows; one row is a plain step."""
    step_bytes: int
    """Of weights that a plain step reads."""
    read_bandwidth: float | None
    """Bytes per second that the machine reads; None: unknown."""
    drafts: tuple[DraftCost, ...]
    auto_plan: str | None
    """What `auto` drafts with, in words; None: without the model."""
    auto_draft: str | None
    """The name of that draft among `drafts`."""
    why_no_copy: str | None
    """Why there is no copy of the weights in 4 bits; None: there is one."""

    @property
    def plain_seconds(self) -> float:
        """A plain step."""
        return self.check_seconds[1]

    @property
    def bytes_per_second(self) -> float:
        """Bytes of weights that a plain step reads in a second."""
        return self.step_bytes / self.plain_seconds

    @property
    def share_of_bandwidth(self) -> float | None:
        """How much of what the machine can read a plain step reads; None: unknown."""
        return None if self.read_bandwidth is None else self.bytes_per_second / self.read_bandwidth

    def as_dict(self) -> dict[str, object]:
        """The report as plain data, ready for JSON."""
        return asdict(self) | {
            "plain_seconds": self.plain_seconds,
            "bytes_per_second": self.bytes_per_second,
            "share_of_bandwidth": self.share_of_bandwidth,
        }


def measure_report(engine: "Engine") -> CostReport:
    """Time the passes of an idle engine and say what `auto` does with them; takes seconds."""
    why_no_copy = engine.drafts.why_no_copy()
    plan = engine.drafts.plan("auto")
    stored = _stored_draft(engine)
    plans = _plans(engine, plan, stored, has_copy=why_no_copy is None)
    views = {name: engine.target.draft_view(plan) for name, plan in plans.items()}
    context = _context(engine)
    costs = measure_passes(engine.target, views, context=context, num_rows=NUM_ROWS)
    checks = rising({cost.num_rows: cost.seconds for cost in costs if cost.plan == TARGET})
    steps = {cost.plan: cost.seconds for cost in costs if cost.plan != TARGET}
    step_bytes = engine.target.step_bytes
    return CostReport(
        context=context,
        num_threads=torch.get_num_threads() if engine.target.device.type == "cpu" else None,
        check_seconds=checks,
        step_bytes=step_bytes.total,
        read_bandwidth=measure_read_bandwidth(engine.target.device),
        drafts=tuple(
            draft_cost(
                name,
                plan,
                steps[name],
                checks,
                round(step_bytes.total * step_bytes.relative(plan)),
                stored.matchness if stored is not None and name == _REMEMBERED else None,
            )
            for name, plan in plans.items()
        ),
        auto_plan=None if plan is None else plan.describe(),
        auto_draft=next((name for name, other in plans.items() if other == plan), None),
        why_no_copy=why_no_copy,
    )


def draft_cost(
    name: str,
    plan: DraftPlan,
    step_seconds: float,
    check_seconds: Mapping[int, float],
    step_bytes: int,
    acceptance: float | None = None,
) -> DraftCost:
    """What a draft with these costs allows; `acceptance` is what a search remembers of it."""
    relative = step_seconds / check_seconds[1]
    verify = partial(seconds_of_rows, check_seconds)
    return DraftCost(
        name=name,
        weight_bits=plan.weight_bits,
        num_skipped=plan.skip_set.num_skipped,
        step_seconds=step_seconds,
        relative_cost=relative,
        step_bytes=step_bytes,
        break_even=break_even(step_seconds, verify),
        ceilings={share: ceiling(share, relative) for share in ACCEPTANCES},
        remembered_acceptance=acceptance,
        remembered_ceiling=ceiling(acceptance, relative) if acceptance is not None else None,
        predicted_speedup=None
        if acceptance is None
        else predict(acceptance, step_seconds, verify).speedup,
    )


def _plans(
    engine: "Engine", chosen: DraftPlan | None, stored: StoredDraft | None, *, has_copy: bool
) -> dict[str, DraftPlan]:
    """The drafts to time, by name; each once."""
    plans: dict[str, DraftPlan] = {}
    if has_copy:
        plans["4-bit copy"] = DraftPlan(weight_bits=4)
    even = engine.target.uniform_skip_set(SKIP_RATIO)
    if even.num_skipped:
        plans[f"{SKIP_RATIO:.0%} skipped evenly"] = DraftPlan(even)
    if stored is not None:
        # A search scores with the target's own bits, so that is what its acceptance is of.
        plans[_REMEMBERED] = DraftPlan(stored.skip_set)
    if chosen is not None and chosen not in plans.values():
        plans["draft of auto"] = chosen
    return plans


def _stored_draft(engine: "Engine") -> StoredDraft | None:
    """The best remembered draft that can run here and skips something."""
    drafts, _ = DraftStore(engine.target.fingerprint.weights).fitting(engine.target.layers)
    return next((draft for draft in drafts if draft.skip_set.num_skipped), None)


def _context(engine: "Engine") -> int:
    longest = engine.target.max_context
    return CONTEXT if longest is None else max(1, min(CONTEXT, longest - 2 * max(NUM_ROWS)))
