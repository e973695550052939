"""What the name of a draft means for a model, and what its drafters learn together."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Literal, get_args

import torch

from selfdraft.decoding.loop import Drafter
from selfdraft.drafting.adaptive import AdaptiveDrafter
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafting.draft_memory import DraftMemory
from selfdraft.drafting.free.earlier_texts import EarlierTexts
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.drafting.router import Router
from selfdraft.drafting.self_drafter import SelfDrafter
from selfdraft.errors import ConfigError, UnsupportedModelError
from selfdraft.model.draft_plan import DraftPlan, WeightBits
from selfdraft.model.placement import available_memory, dtype_name
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.target import Target
from selfdraft.search.online_search import OnlineSearch
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.skip_search import Trial
from selfdraft.search.store import DraftStore, StoredDraft
from selfdraft.search.trace import Trace

Mode = Literal["auto", "swift"]
DraftName = Literal["auto", "swift", "suffix", "recycling", "off"]
Draft = DraftName | DraftConfig
"""`"auto"` drafts with whatever is fastest here. `"swift"` is the paper's preset: its search, then
its drafts. `"suffix"` copies from the text so far, `"recycling"` uses the target's runners-up, and
neither needs a model's pass. `"off"` is vanilla decoding. A config is a draft of your own, without
a search."""

# Of the memory that is available, a copy of the weights may take so much unasked.
_MEMORY_SHARE = 0.5

_SEARCHES = {"auto": SearchConfig(), "swift": SearchConfig.swift()}


class Drafts:
    """The drafters of one engine. What one request learns, the next one starts with."""

    def __init__(
        self,
        target: Target,
        search: SearchConfig | None = None,
        *,
        remember: bool = True,
        known: Sequence[SkipSet] = (),
        trace: Trace | None = None,
        may_copy: bool = True,
        copy_earlier_texts: bool = False,
    ) -> None:
        """`search` replaces the search of `auto`, which reads and writes the store if told to.

        It begins with the first of `known`, and tries those before what is in the store. Without
        `may_copy`, no draft has a copy of the weights in fewer bits, whatever the target allows.
        With `copy_earlier_texts`, the drafts that copy the text also copy from those of requests
        that have ended.
        """
        self._target = target
        self._may_copy = may_copy
        self._configs = _SEARCHES if search is None else _SEARCHES | {"auto": search}
        self._store = DraftStore(target.fingerprint.weights) if remember else None
        self._known = tuple(known)
        self._trace = trace
        self._memory = DraftMemory(CostModel(self._relative_bytes))
        self._earlier = EarlierTexts() if copy_earlier_texts else None
        self._searches: dict[str, OnlineSearch] = {}
        self._view = lru_cache(maxsize=8)(target.draft_view)
        self._lock = Lock()

    def drafter(self, draft: Draft) -> Drafter:
        """A drafter for one request.

        Raises:
            ConfigError: there is no such draft, or its skip set does not fit the model.
        """
        if draft == "suffix":
            return self._router(recycles=False)
        if draft == "recycling":
            return self._router(copies_text=False)
        if draft == "auto":
            return AdaptiveDrafter(self._router(), self.search("auto"), self._view)
        config = self.resolve(draft)
        if config is None:
            return NoDrafter()
        if draft == "swift":
            return AdaptiveDrafter(SelfDrafter(None, config), self.search("swift"), self._view)
        assert config.skip_set is not None
        plan = DraftPlan(config.skip_set, config.weight_bits)
        if plan.weight_bits != 16 and not self._may_copy:
            raise ConfigError(
                f"weight_bits is {plan.weight_bits}, and these drafts may make no copy of the "
                "weights: give 16"
            )
        return SelfDrafter(self._view(plan), config)

    def _router(self, *, copies_text: bool = True, recycles: bool = True) -> Router:
        return Router(
            self._memory,
            supports_trees=self._target.supports_trees,
            copies_text=copies_text,
            recycles=recycles,
            earlier=self._earlier.text if self._earlier and copies_text else None,
        )

    def end_request(self, token_ids: Sequence[int]) -> None:
        """A request has ended, or was stopped, with this text, which later ones may copy."""
        if self._earlier is not None:
            self._earlier.add(token_ids)

    def search(self, mode: Mode) -> OnlineSearch:
        """The search behind `auto` or `swift`, which all requests share."""
        with self._lock:
            if mode not in self._searches:
                self._searches[mode] = self._auto() if mode == "auto" else self._swift()
            return self._searches[mode]

    def _swift(self) -> OnlineSearch:
        return OnlineSearch(
            self._target, self._configs["swift"], self._memory.costs, trace=self._trace
        )

    def _auto(self) -> OnlineSearch:
        stored = () if self._store is None else self._store.fitting(self._target.layers)[0]
        return OnlineSearch(
            self._target,
            self._configs["auto"],
            self._memory.costs,
            weight_bits=self._fewest_bits(),
            remembered=[*self._known, *(draft.skip_set for draft in stored)],
            on_rest=self._keep,
            trace=self._trace,
        )

    def _keep(self, plan: DraftPlan, trial: Trial, num_proposals: int) -> None:
        if self._store is not None:
            self._store.remember(
                StoredDraft(
                    skip_set=plan.skip_set,
                    weight_bits=plan.weight_bits,
                    matchness=trial.agreement.matchness,
                    predicted_speedup=trial.value,
                    num_proposals=num_proposals,
                )
            )

    def _fewest_bits(self) -> WeightBits:
        """4 where a copy of the weights pays, can be had and has room: it is made now."""
        return 4 if self.why_no_copy() is None else 16

    def why_no_copy(self) -> str | None:
        """Why `auto` drafts without a copy of the weights in 4 bits; None if it has one.

        In float32 a check of a few rows costs a CPU so much more than a pass of one that no draft
        is worth a copy.
        """
        if not self._may_copy:
            return "it was told to make none"
        if 4 in self._target.copy_bytes:  # what memory is left says nothing any more
            return None
        if self._target.dtype not in (torch.bfloat16, torch.float16):
            return f"in {dtype_name(self._target.dtype)} no draft would be worth it"
        problem = self._target.copy_problem
        if problem is not None:
            return problem
        available = available_memory()
        needed = self._target.predict_copy_bytes(4)
        if available is not None and needed > _MEMORY_SHARE * available:
            return (
                f"it would take {needed:,} bytes, more than {_MEMORY_SHARE:.0%} of the "
                f"{available:,} that are available"
            )
        try:
            self._target.draft_view(DraftPlan(weight_bits=4))
        except (UnsupportedModelError, ConfigError) as error:
            return str(error)
        return None

    def plan(self, draft: Draft) -> DraftPlan | None:
        """What is drafted with at the moment; None is plain decoding."""
        if draft in ("auto", "swift"):
            return self.search(draft).plan
        if draft in ("suffix", "recycling"):
            return None
        config = self.resolve(draft)
        if config is None:
            return None
        assert config.skip_set is not None
        return DraftPlan(config.skip_set, config.weight_bits)

    def vanilla_tokens_per_second(self, context: int) -> float | None:
        """What plain decoding would write behind `context` tokens, by the costs measured so far.

        None before a pass was timed, which drafts with a router do.
        """
        costs = self._memory.costs
        return 1 / costs.verify_seconds(1, context) if costs.is_measured else None

    def resolve(self, draft: Draft) -> DraftConfig | None:
        """How the skipped model drafts, with its skip set; None is plain decoding.

        Raises:
            ConfigError: there is no such draft.
        """
        if draft == "off":
            return None
        if draft == "swift":
            draft = DraftConfig()
        if not isinstance(draft, DraftConfig):
            names = ", ".join(f"'{name}'" for name in get_args(DraftName))
            raise ConfigError(f"draft is {draft!r}: give one of {names}, or a DraftConfig")
        if not self._target.supports_trees:
            draft = replace(draft, sibling_counts=())
        if draft.skip_set is not None:
            return draft
        skip_set = self._target.uniform_skip_set(draft.skip_ratio)
        # A draft with nothing made cheaper costs as much as the target.
        is_target = DraftPlan(skip_set, draft.weight_bits).is_target
        return None if is_target else replace(draft, skip_set=skip_set)

    def _relative_bytes(self, plan: object) -> float:
        assert isinstance(plan, DraftPlan)
        return self._target.step_bytes.relative(plan)
