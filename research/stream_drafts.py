"""The drafts of a stream of texts, each with memory and search of its own.

`auto` is that of an engine that remembers nothing. The others compare skip sets alone: they draft
by the paper's rule, with the target's own weights and without free drafts; `swift` is the preset.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from selfdraft.config import require
from selfdraft.decoding.loop import Drafter
from selfdraft.drafting.adaptive import AdaptiveDrafter, PlanDrafter
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.drafting.self_drafter import SelfDrafter
from selfdraft.drafts import Drafts, Mode
from selfdraft.engine import Engine
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.skip_set import SkipSet
from selfdraft.search.ahead_of_time import PassCosts
from selfdraft.search.online_search import OnlineSearch
from selfdraft.search.search_config import SearchConfig

VANILLA = "off"
STORED = ("auto-stored", "swift-stored")
NAMES = ("frozen", "swift", "auto", "auto-skip", *STORED)


class StreamDraft:
    """One draft on its way through the stream."""

    def __init__(
        self, name: str, new_drafter: Callable[[], Drafter], search: OnlineSearch | None = None
    ) -> None:
        """`new_drafter` makes the drafter of one request."""
        self.name = name
        self.search = search
        self._new_drafter = new_drafter

    def drafter(self) -> Drafter:
        """A drafter for the next request."""
        return self._new_drafter()

    def end_segment(self) -> None:
        """The text will be of another kind from here on; nobody is told but who freezes."""


class FrozenDraft(StreamDraft):
    """Searches during the first segment, and keeps what it has then."""

    def __init__(
        self,
        name: str,
        new_drafter: Callable[[], Drafter],
        search: OnlineSearch,
        fixed: Callable[[DraftPlan], Callable[[], Drafter]],
    ) -> None:
        """`fixed` makes the maker of drafters for a plan that stays."""
        super().__init__(name, new_drafter, search)
        self._fixed = fixed

    def end_segment(self) -> None:
        """Keep the set that is best now; without one there is no draft from here on."""
        if self.search is None:
            return
        plan, self.search = self.search.plan, None
        self._new_drafter = NoDrafter if plan is None else self._fixed(plan)


@dataclass(frozen=True, slots=True)
class FixedCosts:
    """Costs that were measured beforehand, at whatever context."""

    passes: PassCosts

    def verify_seconds(self, num_rows: int, context: int) -> float:
        """A verification of `num_rows` nodes."""
        return self.passes.verify_seconds(num_rows)

    def draft_seconds(self, plan: DraftPlan, context: int) -> float:
        """A draft step of `plan`, with the target's own weights."""
        return self.passes.draft_seconds(plan.skip_set)


class StreamDrafts:
    """Makes the drafts of a stream by their names."""

    def __init__(
        self,
        engine: Engine,
        costs: PassCosts,
        *,
        skip_ratio: float | None = None,
        stored: SkipSet | None = None,
    ) -> None:
        """`skip_ratio` fixes the size of all sets but those of `auto`.

        Without it `auto-skip` and `frozen` find the size, and `swift` has the paper's. `stored` is
        a set that was found beforehand.
        """
        self._engine = engine
        self._costs = FixedCosts(costs)
        self._skip_ratio = skip_ratio
        self._stored = stored
        self._view = lru_cache(maxsize=8)(engine.target.draft_view)
        self._config = self._supported(DraftConfig())

    def make(self, name: str) -> StreamDraft:
        """The draft of this name, new.

        Raises:
            ConfigError: there is no such draft, or nothing was stored for it.
        """
        require(name in (VANILLA, *NAMES), f"draft {name!r}: give some of {', '.join(NAMES)}")
        if name in STORED:
            return self._from_store(name)
        if name == VANILLA:
            return StreamDraft(name, NoDrafter)
        if name == "auto":
            return self._of_engine(name, "auto", Drafts(self._engine.target, remember=False))
        if name == "swift":
            return self._swift()
        search = self._search(SearchConfig(skip_ratio=self._skip_ratio))
        if name == "frozen":
            return FrozenDraft(name, self._adaptive(search), search, self._fixed)
        return StreamDraft(name, self._adaptive(search), search)

    def _swift(self) -> StreamDraft:
        preset = SearchConfig.swift()
        if self._skip_ratio is not None:
            preset = replace(preset, skip_ratio=self._skip_ratio)
        search = self._search(preset)
        return StreamDraft("swift", self._adaptive(search), search)

    def _from_store(self, name: str) -> StreamDraft:
        stored = self._stored
        require(stored is not None, f"draft {name!r} needs a stored set: add --stored")
        assert stored is not None
        if name == "swift-stored":
            return StreamDraft(name, self._fixed(DraftPlan(stored)))
        drafts = Drafts(self._engine.target, remember=False, known=[stored])
        return self._of_engine(name, "auto", drafts)

    def _of_engine(self, name: str, mode: Mode, drafts: Drafts) -> StreamDraft:
        return StreamDraft(name, lambda: drafts.drafter(mode), drafts.search(mode))

    def _search(self, config: SearchConfig) -> OnlineSearch:
        return OnlineSearch(self._engine.target, config, self._costs)

    def _adaptive(self, search: OnlineSearch) -> Callable[[], Drafter]:
        def new_drafter() -> Drafter:
            drafter: PlanDrafter = SelfDrafter(None, self._config)
            return AdaptiveDrafter(drafter, search, self._view)

        return new_drafter

    def _fixed(self, plan: DraftPlan) -> Callable[[], Drafter]:
        return lambda: SelfDrafter(self._view(plan), self._config)

    def _supported(self, config: DraftConfig) -> DraftConfig:
        """Without siblings where the model cannot check trees."""
        return config if self._engine.target.supports_trees else replace(config, sibling_counts=())
