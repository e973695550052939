"""Contracts L1 to L3 with the router: whatever it mixes and believes, the text is the target's."""

import random
from collections.abc import Iterable

import pytest
import torch
from decoding_runs import Recorder, new_state
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import EVERYTHING, make_prompt, reference_output, tiny_engine

from selfdraft import Engine, SkipSet
from selfdraft.decoding.loop import Round, speculate
from selfdraft.drafting.calibration import Calibration
from selfdraft.drafting.cost_model import CostModel
from selfdraft.drafting.draft_memory import DraftMemory
from selfdraft.drafting.router import Router
from selfdraft.model.draft_plan import DraftPlan

PLANS = {
    "no draft": None,
    "nothing skipped": DraftPlan(),
    "one layer skipped": DraftPlan(SkipSet((2,), (2,))),
    "everything skipped": DraftPlan(EVERYTHING),
}


def decode(
    engine: Engine,
    prompt: Iterable[int],
    memory: DraftMemory,
    plans: list[DraftPlan | None],
    *,
    supports_trees: bool = True,
    **options: object,
) -> tuple[tuple[int, ...], list[Round]]:
    """Decode with a router that changes to the next of `plans` every third round."""
    sink = Recorder()
    state = new_state(engine, list(prompt), sink, **options)
    router = Router(memory, supports_trees=supports_trees)
    rounds: list[Round] = []
    views = [plan if plan is None else engine.target.draft_view(plan) for plan in plans]
    router.use(views[0], plans[0])
    for finished in speculate(engine.target, router, state):
        rounds.append(finished)
        assert state.cache.length == len(state.token_ids) - 1
        index = (len(rounds) // 3) % len(plans)
        router.use(views[index], plans[index])
    return sink.token_ids, rounds


class MoodyCalibration(Calibration):
    """Believes whatever it likes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def probability(self, key: object, prior: float) -> float:
        return self._random.random()


class FixedCosts(CostModel):
    """Costs that are what the test says, whatever is measured."""

    def __init__(self, row_share: float, draft_share: float) -> None:
        super().__init__()
        self._row_share, self._draft_share = row_share, draft_share

    def verify_curve(self, max_rows: int, context: int) -> list[float]:
        return [1.0 + self._row_share * rows for rows in range(max_rows)]

    def verify_seconds(self, num_rows: int, context: int) -> float:
        return self.verify_curve(num_rows, context)[-1]

    def draft_seconds(self, plan: object, context: int) -> float:
        return self._draft_share


def memory_of(row_share: float, draft_share: float, seed: int | None = None) -> DraftMemory:
    memory = DraftMemory(FixedCosts(row_share, draft_share))
    if seed is not None:
        memory.calibration = MoodyCalibration(seed)
    return memory


@pytest.mark.parametrize("supports_trees", [True, False], ids=["trees", "chains"])
@pytest.mark.parametrize("name", PLANS)
def test_greedy_output_is_that_of_transformers(name: str, supports_trees: bool) -> None:
    """Guards against a mixed tree in which a node is checked behind another path than its own."""
    prompt = tuple(make_prompt(17)) * 2
    expected = reference_output("llama", torch.float32, (), prompt, 24)
    for seed in range(3):
        written, rounds = decode(
            tiny_engine(),
            prompt,
            memory_of(0.01, 0.05, seed),
            [PLANS[name]],
            supports_trees=supports_trees,
            max_new_tokens=24,
        )
        assert written == expected
        assert any(len(r.tree.token_ids) > 1 for r in rounds), "something was drafted"
        if not supports_trees:
            assert all(r.tree.parents == (*range(-1, len(r.tree.parents) - 1),) for r in rounds)


@given(
    st.integers(0, 1000),
    st.floats(0, 1),
    st.floats(0, 2),
    st.lists(st.sampled_from(list(PLANS.values())), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.8, 1.5]),
)
def test_any_belief_any_cost_and_any_change_of_plan_write_the_same(
    seed: int,
    row_share: float,
    draft_share: float,
    plans: list[DraftPlan | None],
    temperature: float,
) -> None:
    """Guards against the speed's decisions leaking into the text, greedy or sampled."""
    options = {"max_new_tokens": 12, "temperature": temperature, "seed": seed}
    engine, prompt = tiny_engine(), make_prompt(9, seed=seed % 5)
    vanilla = engine.generate(prompt, draft="off", **options).token_ids
    memory = memory_of(row_share, draft_share, seed)
    assert decode(engine, prompt, memory, plans, **options)[0] == vanilla


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_bfloat16_tokens_are_those_of_plain_decoding(temperature: float) -> None:
    """Guards against bits that depend on the width of the tree (contract L2)."""
    engine = tiny_engine("llama", torch.bfloat16)
    options = {"max_new_tokens": 24, "temperature": temperature}
    vanilla = engine.generate(make_prompt(9), draft="off", **options).token_ids
    memory = memory_of(0.0, 0.1)
    plans = [DraftPlan(), DraftPlan(SkipSet((2,), (2,)))]
    assert decode(engine, make_prompt(9), memory, plans, **options)[0] == vanilla
