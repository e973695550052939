"""What the name of a draft means for a model, and what its drafters learn together."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Literal

from selfdraft.adaptive import AdaptiveDrafter
from selfdraft.decoding.loop import Drafter
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.drafting.self_drafter import SelfDrafter
from selfdraft.errors import ConfigError
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.target import Target
from selfdraft.search.online_search import OnlineSearch
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.trace import Trace

Mode = Literal["auto", "swift"]
Draft = Literal["auto", "swift", "off"] | DraftConfig
"""`"off"` is vanilla decoding. `"swift"` is the paper's preset: its search, then its drafts.
`"auto"` drafts with whatever is fastest here. A config is a draft of your own, without a search."""

_SEARCHES = {"auto": SearchConfig(), "swift": SearchConfig.swift()}


class Drafts:
    """The drafters of one engine. What one request learns, the next one starts with."""

    def __init__(
        self,
        target: Target,
        search: SearchConfig | None = None,
        remembered: Sequence[SkipSet] = (),
        trace: Trace | None = None,
    ) -> None:
        """`search` replaces the search of `auto`; `remembered` are sets to begin with."""
        self._target = target
        self._configs = _SEARCHES if search is None else _SEARCHES | {"auto": search}
        self._remembered = remembered
        self._trace = trace
        self._costs = CostModel(self._relative_bytes)
        self._searches: dict[str, OnlineSearch] = {}
        self._view = lru_cache(maxsize=8)(target.draft_view)
        self._lock = Lock()

    def drafter(self, draft: Draft) -> Drafter:
        """A drafter for one request.

        Raises:
            ConfigError: there is no such draft, or its skip set does not fit the model.
        """
        config = self.resolve(draft)
        if config is None:
            return NoDrafter()
        if isinstance(draft, DraftConfig):
            assert config.skip_set is not None
            plan = DraftPlan(config.skip_set, config.weight_bits)
            return SelfDrafter(self._view(plan), config)
        assert draft != "off", "plain decoding needs no drafter"
        return AdaptiveDrafter(SelfDrafter(None, config), self.search(draft), self._view)

    def search(self, mode: Mode) -> OnlineSearch:
        """The search behind `auto` or `swift`, which all requests share."""
        with self._lock:
            if mode not in self._searches:
                self._searches[mode] = OnlineSearch(
                    self._target,
                    self._configs[mode],
                    self._costs,
                    remembered=self._remembered,
                    trace=self._trace,
                )
            return self._searches[mode]

    def plan(self, draft: Draft) -> DraftPlan | None:
        """What is drafted with at the moment; None is plain decoding."""
        config = self.resolve(draft)
        if config is None:
            return None
        if isinstance(draft, DraftConfig):
            assert config.skip_set is not None
            return DraftPlan(config.skip_set, config.weight_bits)
        assert draft != "off", "plain decoding has no plan"
        return self.search(draft).plan

    def resolve(self, draft: Draft) -> DraftConfig | None:
        """How `draft` drafts on this model, its skip set included; None is plain decoding.

        Raises:
            ConfigError: there is no such draft.
        """
        if draft == "off":
            return None
        if draft in ("auto", "swift"):
            draft = DraftConfig()
        if not isinstance(draft, DraftConfig):
            raise ConfigError(f"draft is {draft!r}: give 'auto', 'swift', 'off' or a DraftConfig")
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
