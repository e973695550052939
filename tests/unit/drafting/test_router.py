"""The router's one rule, with costs and drafts that the test makes up."""

import functools

import pytest
import torch
from decoding_runs import Recorder, Script, new_state
from tiny_models import EVERYTHING, make_prompt, tiny_engine, tiny_model

from selfdraft import Engine, SkipSet
from selfdraft.decoding.loop import Round, speculate
from selfdraft.decoding.state import DecodingState
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.draft_memory import DraftMemory
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.drafting.prices import Prices, chain_worth
from selfdraft.drafting.router import Router
from selfdraft.model.draft_plan import DraftPlan

PLANTED = SkipSet((1, 3, 4), (1, 2, 3))
EXPENSIVE = 5.0


class FixedCosts(CostModel):
    """A plain pass takes a second, a further row and a draft step the given shares of it."""

    def __init__(self, row: float = 0.02, draft: float = 0.1) -> None:
        super().__init__()
        self.row, self.draft = row, draft

    def verify_curve(self, max_rows: int, context: int) -> list[float]:
        return [1.0 + self.row * rows for rows in range(max_rows)]

    def verify_seconds(self, num_rows: int, context: int) -> float:
        return self.verify_curve(num_rows, context)[-1]

    def draft_seconds(self, plan: object, context: int) -> float:
        return self.draft


@functools.cache
def planted_engine() -> Engine:
    """A model on which skipping `PLANTED` changes nothing."""
    model = tiny_model(num_hidden_layers=6)
    with torch.no_grad():
        for index in PLANTED.attention:
            model.model.layers[index].self_attn.o_proj.weight.zero_()
        for index in PLANTED.mlp:
            model.model.layers[index].mlp.down_proj.weight.zero_()
    return Engine(model, draft="off")


def run(
    engine: Engine,
    costs: CostModel,
    plan: DraftPlan | None = None,
    *,
    max_new_tokens: int = 48,
    script: list[int] | None = None,
    **sources: bool,
) -> tuple[list[Round], DecodingState]:
    prompt = make_prompt(9)
    processors = [] if script is None else [Script(len(prompt), script)]
    state = new_state(
        engine, prompt, Recorder(), max_new_tokens=max_new_tokens, processors=processors
    )
    router = Router(DraftMemory(costs), supports_trees=True, **sources)
    if plan is not None:
        router.use(engine.target.draft_view(plan), plan)
    return list(speculate(engine.target, router, state)), state


def test_if_nothing_pays_every_round_is_plain() -> None:
    """Guards against a draft that makes decoding slower than without one."""
    rounds, state = run(tiny_engine(), FixedCosts(row=EXPENSIVE, draft=EXPENSIVE), DraftPlan())
    assert {len(r.tree.token_ids) for r in rounds} == {1}
    assert state.stats.num_drafted == 0


def test_a_perfect_draft_is_used_in_long_chains() -> None:
    """Guards against a rule that stops a draft which is never wrong."""
    plan = DraftPlan(PLANTED)
    rounds, state = run(planted_engine(), FixedCosts(draft=0.05), plan, max_new_tokens=120)
    assert state.stats.mean_accepted_length > 6
    assert state.stats.acceptance_rate > 0.9
    assert max(r.tree.depth for r in rounds) >= 12


def test_a_useless_draft_is_dropped_and_probed_rarely() -> None:
    """Guards against paying again and again for a draft that is wrong, and against never asking
    it again.
    """
    plan = DraftPlan(EVERYTHING)
    engine = Engine(tiny_model(damping=3.0), draft="off")
    calls: list[int] = []
    view = engine.target.draft_view(plan)
    original = view.forward

    def counted(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append(1)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    view.forward = counted  # type: ignore[method-assign]
    state = new_state(engine, make_prompt(9), Recorder(), max_new_tokens=400)
    costs = FixedCosts(row=0.02, draft=0.5)
    router = Router(DraftMemory(costs), supports_trees=True, copies_text=False, recycles=False)
    router.use(view, plan)
    rounds = list(speculate(engine.target, router, state))
    assert len(rounds) > 300, "the draft is useless"
    late = rounds[150:]
    assert 0 < len(calls) < 60
    assert sum(len(r.tree.token_ids) > 1 for r in late) < len(late) / 10


def test_copied_text_is_drafted_from_the_text() -> None:
    """Guards against copies that are not seen, or are cut short."""
    passage = make_prompt(30, seed=5)
    rounds, state = run(
        tiny_engine(), FixedCosts(), script=passage * 4, max_new_tokens=120, recycles=False
    )
    assert state.stats.mean_accepted_length > 3
    last = rounds[len(rounds) // 2 :]
    assert max(len(r.accepted) for r in last) > 8


def test_a_free_copy_saves_the_steps_of_the_draft() -> None:
    """Guards against drafting with a model what the text says for nothing."""
    passage = make_prompt(30, seed=5)
    plan = DraftPlan(SkipSet((2,), (2,)))
    costs = FixedCosts(draft=0.6)
    drafted, state = run(tiny_engine(), costs, plan, script=passage * 5, max_new_tokens=150)
    late = drafted[len(drafted) // 2 :]
    assert sum(len(r.accepted) for r in late) / len(late) > 4
    assert state.stats.num_accepted > 80


def test_recycled_successors_are_not_judged_by_what_they_were_learned_from() -> None:
    """Guards against a table that has seen the tokens it is judged by, and so is believed.

    The output of this model never repeats itself, so what was learned once is of little use; rows
    at a twentieth of a pass must soon stop being spent on it.
    """
    rounds, state = run(tiny_engine(), FixedCosts(row=0.05), max_new_tokens=200, copies_text=False)
    assert any(len(r.tree.token_ids) > 1 for r in rounds)
    seconds = sum(1 + 0.05 * (len(r.tree.token_ids) - 1) for r in rounds)
    assert state.stats.num_new_tokens / seconds > 0.95


def prices(row: float, draft: float) -> Prices:
    return Prices.at(FixedCosts(row), rate=1.0, context=10, max_rows=20, draft_seconds=draft)


def test_a_step_is_taken_as_long_as_it_yields_more_than_it_costs() -> None:
    """Guards against the rule being off by a factor: worth is probability less both prices."""
    one_step = chain_worth(1.0, 0.5, prices(0.1, 0.3), num_rows=1, max_steps=1)
    assert one_step == pytest.approx(0.5 - 0.3 - 0.1)
    two_steps = chain_worth(1.0, 0.9, prices(0.1, 0.3), num_rows=1, max_steps=2)
    assert two_steps == pytest.approx((0.9 - 0.4) + (0.81 - 0.4))
    assert chain_worth(0.3, 0.9, prices(0.1, 0.3), num_rows=1, max_steps=5) < 0
    before_a_copy = chain_worth(1.0, 0.5, prices(0.1, 0.3), 1, 1, free_worth=2.0)
    assert before_a_copy == pytest.approx(0.5 - 0.3 - 0.1 + 0.5 * 2.0)


def test_time_is_worth_in_a_new_request_what_it_was_in_the_last() -> None:
    """Guards against requests that start as if nothing were drafted: time seems cheap then, and
    the first drafts go too far.
    """
    memory = DraftMemory(FixedCosts())
    for _ in range(60):
        memory.rate.count(3, 1.5)
    prices_at_start = Router(memory, supports_trees=True)._prices(10)
    assert prices_at_start.verify[1] == memory.rate.tokens_per_plain_pass() > 1.8


def test_time_is_soon_worth_what_it_is_in_this_request() -> None:
    """Guards against a hard text whose time is taken to be as dear as that of the easy one before
    it, so that it drafts too little from beginning to end.
    """
    memory = DraftMemory(FixedCosts())
    for _ in range(60):
        memory.rate.count(3, 1.0)
    engine = tiny_engine()
    router = Router(memory, supports_trees=True, copies_text=False, recycles=False)
    state = new_state(engine, make_prompt(9), Recorder(), max_new_tokens=20)
    for _ in speculate(engine.target, router, state):  # plain rounds: a token in a pass
        pass
    assert router._prices(10).verify[1] < 1.3
    assert memory.rate.tokens_per_plain_pass() > 1.8


def test_a_draft_that_computes_nonsense_does_no_harm() -> None:
    """Guards against logits that are not numbers: nothing is then expected of the next step."""
    engine = tiny_engine()
    view = engine.target.draft_view(DraftPlan())
    original = view.forward

    def broken(*args: object, **kwargs: object) -> torch.Tensor:
        return original(*args, **kwargs) * float("nan")  # type: ignore[arg-type]

    view.forward = broken  # type: ignore[method-assign]
    state = new_state(engine, make_prompt(9), Recorder(), max_new_tokens=40)
    router = Router(DraftMemory(FixedCosts(draft=0.01)), supports_trees=True)
    router.use(view, DraftPlan())
    list(speculate(engine.target, router, state))
    expected = new_state(engine, make_prompt(9), Recorder(), max_new_tokens=40)
    list(speculate(engine.target, NoDrafter(), expected))
    assert state.token_ids == expected.token_ids


def test_rows_are_never_for_nothing() -> None:
    """Guards against noise in the costs making trees as wide as they can be."""
    free = prices(0.0, 0.1)
    assert all(free.row(n) >= 0.01 * (1 - 1e-9) for n in range(1, 20))
    assert free.row(20) == float("inf")
