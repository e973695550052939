"""Every draft through one stream of texts, prompt by prompt in turn with vanilla decoding."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from research.stream_drafts import StreamDraft
from selfdraft.bench.methods.method import Request
from selfdraft.bench.run.runner import Ending
from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.loop import Drafter, Round, speculate
from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.decoding.token_tree import TokenTree
from selfdraft.drafting.adaptive import AdaptiveDrafter
from selfdraft.drafting.chain_outcome import ChainOutcome
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.drafting.self_drafter import SelfDrafter
from selfdraft.engine import Engine
from selfdraft.model.draft_plan import DraftPlan

_WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Segment:
    """Prompts of one kind, in their order."""

    name: str
    requests: Sequence[Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One prompt of the stream by one draft."""

    draft: str
    segment: int
    prompt: int
    """Its place in the segment, from 0."""
    token_ids: tuple[int, ...]
    prefill_seconds: float
    decode_seconds: float
    """Of all rounds, with the search between them."""
    search_seconds: float
    """What drafters did between rounds: learning, and the search."""
    outcomes: tuple[ChainOutcome, ...]
    """Round by round, what became of the tokens that the model's own draft named."""
    num_switches: int
    """How often the plan changed."""
    num_starts: int
    """How often the search had begun by the end, this request's and all before it."""
    share_spent: float
    """Search seconds over decode seconds without them, since the stream began."""


def run_stream(
    engine: Engine,
    segments: Sequence[Segment],
    drafts: Sequence[StreamDraft],
    keep: Callable[[Sequence[Passage]], None],
    on_step: Callable[[], None] = lambda: None,
    *,
    time_limit: float | None = None,
) -> Ending:
    """Decode every prompt with every draft; who begins changes from prompt to prompt.

    `keep` gets the passages of each prompt that all drafts have done. `time_limit` is in seconds,
    warm-up included, and looked at between prompts; Ctrl-C loses the prompt that it interrupts.
    """
    start = time.monotonic()
    try:
        _warm_up(engine, drafts, segments[0].requests[0])
        for number, segment in enumerate(segments):
            for index, request in enumerate(segment.requests):
                if (number or index) and _is_over(start, time_limit):
                    return "time limit"
                passages = []
                for turn in range(len(drafts)):
                    draft = drafts[(index + turn) % len(drafts)]
                    passages.append(_passage(engine, draft, number, index, request))
                    on_step()
                keep(passages)
            for draft in drafts:
                draft.end_segment()
    except KeyboardInterrupt:
        return "interrupted"
    return "complete"


def _is_over(start: float, time_limit: float | None) -> bool:
    return time_limit is not None and time.monotonic() - start > time_limit


def _warm_up(engine: Engine, drafts: Sequence[StreamDraft], request: Request) -> None:
    """Let kernels be built; but a search would learn from the text."""
    for draft in drafts:
        if draft.search is None:
            _decode(engine, draft.drafter(), request, _WARM_UP_TOKENS)


def _passage(
    engine: Engine, draft: StreamDraft, segment: int, index: int, request: Request
) -> Passage:
    watched = _Watched(draft.drafter(), draft)
    state = _decode(engine, watched, request, request.max_new_tokens)
    stats, search = state.stats, draft.search
    return Passage(
        draft=draft.name,
        segment=segment,
        prompt=index,
        token_ids=tuple(state.token_ids[stats.num_prompt_tokens :]),
        prefill_seconds=stats.prefill_seconds,
        decode_seconds=stats.decode_seconds,
        search_seconds=stats.search_seconds,
        outcomes=tuple(watched.outcomes),
        num_switches=watched.num_switches,
        num_starts=0 if search is None else search.num_starts,
        share_spent=0.0 if search is None else search.share_spent,
    )


def _decode(
    engine: Engine, drafter: Drafter, request: Request, max_new_tokens: int
) -> DecodingState:
    config = RequestConfig(temperature=request.temperature, seed=request.seed)
    state = DecodingState.begin(
        engine.target,
        list(request.token_ids),
        chooser=Chooser.from_config(config),
        sink=_Discard(),
        max_new_tokens=max_new_tokens,
        eos_token_ids=engine.eos_token_ids,
    )
    for _ in speculate(engine.target, drafter, state):
        pass
    return state


class _Watched:
    """A drafter whose rounds are noted."""

    def __init__(self, drafter: Drafter, draft: StreamDraft) -> None:
        self.outcomes: list[ChainOutcome] = []
        self.num_switches = 0
        self._drafter = drafter
        self._draft = draft
        self._plan = self._plan_now()

    def propose(self, state: DecodingState) -> TokenTree:
        """What the drafter proposes."""
        return self._drafter.propose(state)

    def observe(self, state: DecodingState, outcome: Round) -> None:
        """Let the drafter learn; note how its own chain fared, and whether the plan changed."""
        self._drafter.observe(state, outcome)
        self.outcomes.append(_outcome_of(self._drafter))
        plan = self._plan_now()
        self.num_switches += plan != self._plan
        self._plan = plan

    def _plan_now(self) -> DraftPlan | None:
        search = self._draft.search
        return None if search is None else search.plan


def _outcome_of(drafter: Drafter) -> ChainOutcome:
    assert isinstance(drafter, AdaptiveDrafter | SelfDrafter | NoDrafter)
    return ChainOutcome() if isinstance(drafter, NoDrafter) else drafter.last_outcome


class _Discard:
    def push(self, token: NewToken) -> bool:
        return False
