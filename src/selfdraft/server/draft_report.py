"""What drafts at the moment, and how the search for it goes."""

from typing import Any

from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafts import Draft
from selfdraft.engine import Engine
from selfdraft.search.online_search import OnlineSearch
from selfdraft.server.metrics import Snapshot

# Tokens of context at which vanilla's rate is predicted: a short conversation.
_CONTEXT = 256


def draft_report(engine: Engine, draft: Draft) -> dict[str, Any]:
    """The default draft's plan and search, as `GET /v1/draft` gives them."""
    plan = engine.drafts.plan(draft)
    return {
        "draft": "custom" if isinstance(draft, DraftConfig) else draft,
        "plan": None
        if plan is None
        else {
            "attention": list(plan.skip_set.attention),
            "mlp": list(plan.skip_set.mlp),
            "weight_bits": plan.weight_bits,
        },
        "num_layers": engine.target.layers.num_layers,
        "fixed": _fixed(engine),
        "search": _search_report(_search_of(engine, draft)),
        "vanilla_tokens_per_second": engine.drafts.vanilla_tokens_per_second(_CONTEXT),
    }


def snapshot(engine: Engine | None, draft: Draft, num_running: int, num_waiting: int) -> Snapshot:
    """The state of drafts for Prometheus; while the engine loads, nothing is drafted."""
    if engine is None:
        return Snapshot(num_running, num_waiting)
    plan, search = engine.drafts.plan(draft), _search_of(engine, draft)
    return Snapshot(
        num_running,
        num_waiting,
        is_searching=search is not None and not search.is_resting,
        num_proposals=0 if search is None else search.num_proposals,
        num_skipped=0 if plan is None else plan.skip_set.num_skipped,
        weight_bits=16 if plan is None else plan.weight_bits,
    )


def _search_of(engine: Engine, draft: Draft) -> OnlineSearch | None:
    return engine.drafts.search(draft) if draft in ("auto", "swift") else None


def _search_report(search: OnlineSearch | None) -> dict[str, Any]:
    if search is None:
        return {"state": "off", "num_proposals": 0, "num_starts": 0, "time_share": 0.0}
    return {
        "state": "resting" if search.is_resting else "searching",
        "num_proposals": search.num_proposals,
        "num_starts": search.num_starts,
        "time_share": search.share_spent,
    }


def _fixed(engine: Engine) -> dict[str, list[int]]:
    """The sublayers that no plan may skip."""
    layers = list(enumerate(engine.target.layers.layers))
    return {
        "attention": [i for i, la in layers if not (la.attention or la.is_skippable_whole)],
        "mlp": [i for i, la in layers if not (la.mlp or la.is_skippable_whole)],
    }
