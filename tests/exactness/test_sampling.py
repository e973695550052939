"""Contract L3: with one seed every draft samples the same tokens, and they follow the target's law.

The law of the output is softmax of the warped logits, whatever the draft does.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from decoding_runs import PlannedDrafter, Recorder, chain_after_root, decode, new_state
from tiny_models import DRAFTS, TREE, make_prompt, tiny_engine, tiny_model
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

from selfdraft import DraftConfig, Engine, SkipSet
from selfdraft.decoding.loop import Drafter, decode_round
from selfdraft.decoding.state import DecodingState
from selfdraft.drafting.no_drafter import NoDrafter
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.target import Target

OPTIONS: list[dict[str, float]] = [
    {"temperature": 0.3},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 1.5, "top_p": 0.8, "top_k": 20, "min_p": 0.01, "repetition_penalty": 1.3},
    {"temperature": 0.0, "repetition_penalty": 1.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
def test_same_seed_same_tokens(options: dict[str, float]) -> None:
    """Guards against noise or filters that depend on who drafted, or on where a round ends."""
    vanilla = decode(tiny_engine(), make_prompt(9), "off", max_new_tokens=14, seed=3, **options)
    for name in ("chain", "tree", "wide tree"):
        run = decode(
            tiny_engine(), make_prompt(9), DRAFTS[name], max_new_tokens=14, seed=3, **options
        )
        assert run.sink.token_ids == vanilla.sink.token_ids, name


def test_different_seeds_differ() -> None:
    """Guards against a seed that is ignored."""
    outputs = {
        decode(
            tiny_engine(), make_prompt(9), TREE, max_new_tokens=8, temperature=1.0, seed=seed
        ).sink.token_ids
        for seed in range(5)
    }
    assert len(outputs) == 5


def test_a_good_draft_is_accepted_when_sampling() -> None:
    """Guards against a drafter whose noise is not the target's: it would agree by chance only."""
    draft = DraftConfig.chain(4, skip_set=SkipSet())
    run = decode(tiny_engine(), make_prompt(9), draft, max_new_tokens=20, temperature=1.5, seed=1)
    assert run.state.stats.acceptance_rate == 1.0


# --- The law, on a vocabulary so small that every probability can be counted. ---

VOCAB = 12
WARPING: dict[str, float] = {"temperature": 0.7, "top_k": 5}
PROMPT = [3, 7, 1, 10]


class RememberingTarget(Target):
    """A target that computes the logits of every prefix and tree once.

    So thousands of requests with other seeds cost no more than their choices.
    """

    state: DecodingState

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self._known: dict[object, Tensor] = {}

    def forward(
        self, cache: KVCache, token_ids: Sequence[int], paths: tuple[tuple[int, ...], ...]
    ) -> Tensor:
        """What `Target.forward` returns after the tokens of `state`."""
        prefix = self.state.token_ids[:-1]
        key = (tuple(prefix), token_ids, paths)
        if key not in self._known:
            own_cache = self.new_cache(64)
            self.prefill(own_cache, prefix)
            self._known[key] = super().forward(own_cache, token_ids, paths)
        return self._known[key]


class Laboratory:
    """One prompt on a tiny model, decoded again and again with other seeds."""

    def __init__(self) -> None:
        model = tiny_model(vocab_size=VOCAB, num_hidden_layers=3, initializer_range=0.12)
        self.engine = Engine(model)
        self._target = RememberingTarget(model)

    def sample(self, seed: int, drafter: Drafter, num_tokens: int) -> tuple[int, ...]:
        """The first `num_tokens` tokens that `seed` gives after the prompt."""
        sink = Recorder()
        options = {"max_new_tokens": num_tokens, "seed": seed, **WARPING}
        state = new_state(self.engine, PROMPT, sink, **options)
        self._target.state = state
        while not state.is_finished:
            decode_round(self._target, drafter, state)
        return sink.token_ids

    @torch.inference_mode()
    def law_after(self, new_tokens: tuple[int, ...]) -> Tensor:
        """Probabilities of the next token, by transformers alone."""
        input_ids = torch.tensor([[*PROMPT, *new_tokens]])
        logits = self.engine.target.model(input_ids).logits[:, -1]
        warpers = LogitsProcessorList(
            [TemperatureLogitsWarper(WARPING["temperature"]), TopKLogitsWarper(WARPING["top_k"])]
        )
        return torch.softmax(warpers(input_ids, logits), dim=-1)[0]

    def likeliest(self, length: int) -> tuple[int, ...]:
        """The likeliest token, then the likeliest after it, and so on."""
        tokens: tuple[int, ...] = ()
        for _ in range(length):
            tokens = (*tokens, int(self.law_after(tokens).argmax()))
        return tokens


@pytest.fixture(scope="module")
def laboratory() -> Laboratory:
    return Laboratory()


def p_value(counts: Counter[int], law: Tensor) -> float:
    """Pearson's chi-square test of `counts` against `law`; 0 if the impossible was counted."""
    possible = law > 0
    if any(not possible[token] for token in counts):
        return 0.0
    expected = law.double() * counts.total()
    observed = torch.tensor([counts[token] for token in range(len(law))], dtype=torch.float64)
    statistic = ((observed - expected) ** 2 / expected)[possible].sum()
    degrees = (possible.sum() - 1).double()
    return float(torch.special.gammaincc(degrees / 2, statistic / 2))


# So unlikely that a run of the whole project's life would not see it by chance.
SIGNIFICANCE = 1e-6


def test_p_value_tells_laws_apart() -> None:
    """Guards against a chi-square test that accepts everything."""
    law = torch.tensor([0.5, 0.3, 0.2, 0.0])
    assert p_value(Counter({0: 500, 1: 300, 2: 200}), law) > 0.99
    assert p_value(Counter({0: 590, 1: 210, 2: 200}), law) < SIGNIFICANCE
    assert p_value(Counter({0: 500, 1: 299, 2: 200, 3: 1}), law) == 0


def test_law_of_the_laboratory_is_not_degenerate(laboratory: Laboratory) -> None:
    """Guards against laws so peaked that a wrong sampler passes."""
    for tokens in ((), laboratory.likeliest(1), laboratory.likeliest(2)):
        law = laboratory.law_after(tokens)
        assert (law > 0.03).sum() >= 3
        assert (law > 0).sum() == WARPING["top_k"]


@pytest.mark.parametrize("num_seeds", [250, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("drafted", [(), (0, 4, 9), (2,)])
def test_law_of_the_first_token(
    laboratory: Laboratory, drafted: tuple[int, ...], num_seeds: int
) -> None:
    """Guards against drafted tokens, taken or refused, that bend the target's law."""
    tree = (drafted, [0] * len(drafted))
    counts = Counter(
        laboratory.sample(seed, PlannedDrafter(tree), 1)[0] for seed in range(num_seeds)
    )
    assert p_value(counts, laboratory.law_after(())) > SIGNIFICANCE


@pytest.mark.parametrize("num_seeds", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_law_after_a_fully_accepted_path(laboratory: Laboratory, num_seeds: int) -> None:
    """Guards against a bonus token from another law than the rest (as in the reference code)."""
    path = laboratory.likeliest(2)
    counts: Counter[int] = Counter()
    for seed in range(num_seeds):
        tokens = laboratory.sample(seed, PlannedDrafter(chain_after_root(path)), 3)
        if tokens[:2] == path:
            counts[tokens[2]] += 1
    assert counts.total() > num_seeds / 20
    assert p_value(counts, laboratory.law_after(path)) > SIGNIFICANCE


@pytest.mark.parametrize("num_seeds", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_law_of_a_later_token_by_plain_decoding(laboratory: Laboratory, num_seeds: int) -> None:
    """Guards against noise at one position that knows about the noise before it."""
    (first,) = laboratory.likeliest(1)
    seconds = Counter(
        tokens[1]
        for seed in range(num_seeds)
        if (tokens := laboratory.sample(seed, NoDrafter(), 2))[0] == first
    )
    assert p_value(seconds, laboratory.law_after((first,))) > SIGNIFICANCE


@pytest.mark.slow
def test_joint_law_of_two_tokens_through_the_real_drafter(laboratory: Laboratory) -> None:
    """Guards against a drafter that favours the outputs that it drafts well."""
    skip_set = SkipSet((1,), (1,))
    draft = DraftConfig(
        skip_set=skip_set, stop_confidence=0.4, max_draft_steps=3, sibling_counts=((1.0, 2),)
    )
    pairs = Counter(
        decode(
            laboratory.engine, PROMPT, draft, max_new_tokens=2, seed=seed, **WARPING
        ).sink.token_ids
        for seed in range(400)
    )
    first = laboratory.law_after(())
    law = torch.cat([first[token] * laboratory.law_after((token,)) for token in range(VOCAB)])
    index = {pair: i for i, pair in enumerate(itertools.product(range(VOCAB), repeat=2))}
    counts = Counter({index[pair]: number for pair, number in pairs.items()})
    assert p_value(counts, law) > SIGNIFICANCE
