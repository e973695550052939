"""Contracts L1 to L3 while a search runs, restarts, and changes the draft in mid-request."""

import functools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from decoding_runs import Recorder, Run, decode, new_state
from tiny_models import make_prompt, tiny_model, transformers_greedy

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.decoding.loop import Drafter, speculate
from selfdraft.decoding.state import DecodingState
from selfdraft.drafting.adaptive import AdaptiveDrafter
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.draft_memory import DraftMemory
from selfdraft.drafting.router import Router
from selfdraft.drafting.self_drafter import SelfDrafter
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.search import online_search
from selfdraft.search.online_search import OnlineSearch
from selfdraft.search.search_config import SearchConfig

USELESS = SkipSet((1, 3), (2, 6))
NUM_TOKENS = 80
EAGER = SearchConfig(time_share=None, context_window=8, patience=5)
"""Searches in every round, and looks at another window after every eighth token."""


@functools.cache
def new_model(dtype: torch.dtype) -> torch.nn.Module:
    """Half of its sublayers add nothing, so that drafts are mostly right, and some sets better."""
    model = tiny_model(num_hidden_layers=8, dtype=dtype, damping=0.2)
    with torch.no_grad():
        for index in USELESS.attention:
            model.model.layers[index].self_attn.o_proj.weight.zero_()
        for index in USELESS.mlp:
            model.model.layers[index].mlp.down_proj.weight.zero_()
    return model


@functools.cache
def engine(dtype: torch.dtype = torch.float32) -> Engine:
    return Engine(new_model(dtype), draft="off", remember=False)


class Events:
    """A trace that counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def write(self, event: str, **fields: object) -> None:
        self.counts[event] += 1


class CheapDrafts(CostModel):
    """Drafting always pays, whatever this machine does."""

    def verify_curve(self, max_rows: int, context: int) -> list[float]:
        return [1.0 + 0.01 * rows for rows in range(max_rows)]

    def verify_seconds(self, num_rows: int, context: int) -> float:
        return self.verify_curve(num_rows, context)[-1]

    def draft_seconds(self, plan: object, context: int) -> float:
        return 0.4 - 0.03 * plan.skip_set.num_skipped


class Nervous:
    """A change-point rule that takes every ninth round for another text."""

    def __init__(self) -> None:
        self._num_rounds = 0

    def restart(self) -> None:
        pass

    def observe(self, num_accepted: int, *, was_refused: bool) -> bool:
        self._num_rounds += 1
        return self._num_rounds % 9 == 0


@pytest.fixture(autouse=True)
def nervous(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search starts again in mid-request, again and again."""
    monkeypatch.setattr(online_search, "AcceptanceDrop", Nervous)


def new_search(on: Engine, events: Events, config: SearchConfig = EAGER) -> OnlineSearch:
    return OnlineSearch(on.target, config, CheapDrafts(), trace=events)


def searching_drafter(kind: str, on: Engine, search: OnlineSearch) -> Drafter:
    """The drafters of the presets, on a search that is in a hurry."""
    if kind == "router":
        inner = Router(DraftMemory(CheapDrafts()), supports_trees=True)
    else:
        inner = SelfDrafter(None, DraftConfig())
    return AdaptiveDrafter(inner, search, on.target.draft_view)


def run(on: Engine, drafter: Drafter, prompt: list[int], **options: object) -> Run:
    sink = Recorder()
    state = new_state(on, prompt, sink, max_new_tokens=NUM_TOKENS, **options)
    return Run(sink, state, list(speculate(on.target, drafter, state)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("kind", "skip_ratio"), [("router", None), ("paper's drafter", 0.5)])
def test_tokens_are_vanillas_while_the_search_restarts_and_switches(
    kind: str, skip_ratio: float | None, temperature: float, dtype: torch.dtype
) -> None:
    """Guards against a search that leaves the cache, the view or the noise as it needs them."""
    events = Events()
    config = SearchConfig(
        time_share=None, context_window=8, patience=5, skip_ratio=skip_ratio, stop_matchness=1.0
    )
    drafter = searching_drafter(kind, engine(dtype), new_search(engine(dtype), events, config))
    prompt = make_prompt(9)
    expected = decode(
        engine(dtype), prompt, "off", max_new_tokens=NUM_TOKENS, temperature=temperature
    )
    found = run(engine(dtype), drafter, prompt, temperature=temperature)
    assert found.sink.token_ids == expected.sink.token_ids
    assert torch.equal(found.sink.logits, expected.sink.logits) or dtype == torch.float32
    assert found.state.stats.num_accepted > 0
    assert events.counts["restart"] >= 1
    assert events.counts["switch"] >= 1
    assert events.counts["proposal"] >= 10


def test_greedy_tokens_are_those_of_transformers() -> None:
    """L1: not only the same as our own plain decoding."""
    prompt = make_prompt(9)
    expected = transformers_greedy(new_model(torch.float32), prompt, NUM_TOKENS)
    for kind in ("router", "paper's drafter"):
        drafter = searching_drafter(kind, engine(), new_search(engine(), Events()))
        assert run(engine(), drafter, prompt).sink.token_ids == expected


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["swift", "auto"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_presets_of_the_engine_write_what_vanilla_writes(draft: str, temperature: float) -> None:
    """Guards the way from the name of a preset to its search: it runs, and changes no token."""
    events = Events()
    model = new_model(torch.float32)
    own = Engine(model, draft=draft, search=EAGER, remember=False, trace=events)
    for seed in range(2):
        options = {"max_new_tokens": NUM_TOKENS, "temperature": temperature, "seed": seed}
        prompt = make_prompt(9, seed)
        assert (
            own.generate(prompt, **options).token_ids
            == own.generate(prompt, draft="off", **options).token_ids
        )
    assert events.counts["proposal"] >= 10
    assert events.counts["switch"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["swift", "auto"])
def test_two_threads_share_one_search(draft: str) -> None:
    """A thread scored drafts on the cache of the other's request while that one decoded with it,
    and its tokens came out wrong.
    """
    events = Events()
    own = Engine(new_model(torch.float32), search=EAGER, remember=False, trace=events)
    jobs = [(make_prompt(9, seed), seed % 2 * 1.0, seed) for seed in range(6)]

    def generate(job: tuple[list[int], float, int], name: str) -> tuple[int, ...]:
        prompt, temperature, seed = job
        options = {"max_new_tokens": 80, "temperature": temperature, "seed": seed}
        return own.generate(prompt, draft=name, **options).token_ids

    alone = [generate(job, "off") for job in jobs]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda job: generate(job, draft), jobs))
    assert together == alone
    assert events.counts["proposal"] >= 3


@pytest.mark.parametrize("skip_ratio", [None, 0.5])
def test_a_step_of_the_search_leaves_the_request_as_it_was(
    skip_ratio: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and walks write over verified rows and behind them: all must come back, bit by bit."""
    num_checked = []
    original: Callable[..., None] = OnlineSearch.after_round

    def checked(search: OnlineSearch, state: DecodingState, **fields: object) -> None:
        before, length, text = contents(state), state.cache.length, list(state.token_ids)
        num_proposals = search.num_proposals
        original(search, state, **fields)
        assert (state.cache.length, state.token_ids) == (length, text)
        assert all(torch.equal(a, b) for a, b in zip(before, contents(state), strict=True))
        num_checked.append(search.num_proposals > num_proposals)

    monkeypatch.setattr(OnlineSearch, "after_round", checked)
    config = SearchConfig(
        time_share=None, context_window=8, patience=5, skip_ratio=skip_ratio, stop_matchness=1.0
    )
    search = new_search(engine(torch.bfloat16), Events(), config)
    drafter = searching_drafter("router", engine(torch.bfloat16), search)
    run(engine(torch.bfloat16), drafter, make_prompt(9))
    assert sum(num_checked) >= 5


def contents(state: DecodingState) -> list[torch.Tensor]:
    length = state.cache.length
    return [b[:, :, :length].clone() for layer in state.cache.layers for b in layer.buffers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_lies_behind_the_text_cannot_reach_it(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention reads whole blocks and hides what is not the text's; zero times NaN is NaN.

    New memory held a NaN now and then, and a search put such rows back, so that a few tokens were
    the first of the vocabulary. Here all new memory holds them, and so does what drafts leave.
    """
    own = Engine(new_model(dtype), draft="off", remember=False)
    expected = run(own, own.drafter("off"), make_prompt(9))
    empty = torch.Tensor.new_empty

    def poisoned(tensor: torch.Tensor, *size: object, **options: object) -> torch.Tensor:
        made = empty(tensor, *size, **options)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    rewind = KVCache.rewind

    @torch.inference_mode()
    def spoiling(cache: KVCache, length: int) -> None:
        rewind(cache, length)
        for layer in cache.layers:
            for buffer in layer.buffers:
                buffer[:, :, length:] = torch.nan

    monkeypatch.setattr(KVCache, "rewind", spoiling)
    for kind in ("router", "paper's drafter"):
        drafter = searching_drafter(kind, own, new_search(own, Events(), EAGER))
        found = run(own, drafter, make_prompt(9))
        assert found.sink.token_ids == expected.sink.token_ids
