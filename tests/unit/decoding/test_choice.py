"""The choice: warping as transformers does it, and noise that depends on seed and position only."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser, gumbel_noise

VOCAB = 30


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(5, VOCAB, generator=torch.Generator().manual_seed(0)) * 3


SEQUENCE = [4, 8, 15]
TAILS: Sequence[Sequence[int]] = [(), (16,), (16, 23), (4,), (29, 29)]


def test_noise_is_standard_gumbel() -> None:
    """Guards against noise of another law: then the choice would not be a draw from softmax."""
    noise = torch.cat([gumbel_noise(1, position, 20_000) for position in range(10)])
    assert noise.mean() == pytest.approx(0.5772157, abs=0.015)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.04)
    assert (noise < -math.log(math.log(2))).double().mean() == pytest.approx(0.5, abs=0.006)
    assert noise.isfinite().all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 5), (2, 5)),
        ((1, 5), (1, 6)),
        ((3, 4), (4, 3)),
        ((0, 1), (1, 0)),
        ((2**62, 5), (2**62 + 1, 5)),
        ((2**63, 5), (2**63 + 1, 5)),
        ((2**64 - 1, 5), (0, 5)),
    ],
)
def test_noise_of_neighbours_is_independent(one: tuple[int, int], other: tuple[int, int]) -> None:
    """Guards against seed + position as a key, and against large seeds that are rounded."""
    size = 50_000
    pair = torch.stack([gumbel_noise(*one, size), gumbel_noise(*other, size)])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(size)


def test_noise_is_a_function_of_its_key() -> None:
    """Guards against noise that remembers earlier calls."""
    first = gumbel_noise(7, 3, VOCAB)
    gumbel_noise(7, 4, VOCAB)
    assert torch.equal(gumbel_noise(7, 3, VOCAB), first)
    assert first.dtype == torch.float32


def test_greedy_takes_the_largest(logits: Tensor) -> None:
    """Guards against noise that is added when temperature is 0."""
    chooser = Chooser.from_config(RequestConfig(temperature=0, top_k=3, seed=5))
    assert torch.equal(chooser.choose(logits, SEQUENCE, TAILS), logits.argmax(dim=1))


def test_choice_is_the_largest_of_warped_logits_and_noise(logits: Tensor) -> None:
    """Guards against noise of the wrong position: of the node instead of the token after it."""
    chooser = Chooser.from_config(RequestConfig(temperature=0.8, seed=11))
    noise = torch.stack([gumbel_noise(11, len(SEQUENCE) + len(tail), VOCAB) for tail in TAILS])
    expected = (logits / 0.8 + noise).argmax(dim=1)
    assert torch.equal(chooser.choose(logits, SEQUENCE, TAILS), expected)


def test_nodes_at_one_position_share_their_noise(logits: Tensor) -> None:
    """Guards against siblings that draw their own noise: the text would depend on the draft."""
    chooser = Chooser.from_config(RequestConfig(temperature=1.0, seed=2))
    same = logits[:1].repeat(3, 1)
    assert len(set(chooser.choose(same, SEQUENCE, [(1,), (2,), (3,)]).tolist())) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"temperature": 1.0, "top_k": 4},
        {"temperature": 1.4, "top_p": 0.6},
        {"temperature": 2.0, "min_p": 0.2},
        {"temperature": 0.9, "repetition_penalty": 1.7},
        {"temperature": 0.0, "repetition_penalty": 1.7},
        {"temperature": 1.3, "top_k": 9, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 0.8},
    ],
)
def test_warping_is_that_of_transformers_for_every_node(
    logits: Tensor, options: dict[str, float]
) -> None:
    """Guards against filters in another order, and against one prefix for all nodes."""
    processors = LogitsProcessorList()
    if "repetition_penalty" in options:
        processors.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
    if options["temperature"] not in (0.0, 1.0):
        processors.append(TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        processors.append(TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        processors.append(TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        processors.append(MinPLogitsWarper(options["min_p"]))
    before = logits.clone()
    warped = Chooser.from_config(RequestConfig(**options)).warp(logits, SEQUENCE, TAILS)
    assert torch.equal(logits, before)
    for row, tail in enumerate(TAILS):
        prefix = torch.tensor([[*SEQUENCE, *tail]])
        assert torch.equal(warped[row : row + 1], processors(prefix, logits[row : row + 1].clone()))


class _Recording(LogitsProcessor):
    def __init__(self) -> None:
        self.prefixes: list[list[int]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        assert input_ids.shape[0] == scores.shape[0] == 1
        self.prefixes.append(input_ids[0].tolist())
        return scores


def test_own_processors_see_each_nodes_prefix(logits: Tensor) -> None:
    """Guards against a grammar that is asked about a prefix no path of the tree has."""
    recording = _Recording()
    chooser = Chooser.from_config(RequestConfig(temperature=1.0), [recording])
    chooser.choose(logits, SEQUENCE, TAILS)
    assert recording.prefixes == [[*SEQUENCE, *tail] for tail in TAILS]


class _InPlace(LogitsProcessor):
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, ::2] = -torch.inf
        return scores


def test_processors_may_write_into_their_scores(logits: Tensor) -> None:
    """Guards against log-probabilities of logits that a processor has overwritten."""
    before = logits.clone()
    chooser = Chooser.from_config(RequestConfig(), [_InPlace()])
    assert all(token % 2 for token in chooser.choose(logits, SEQUENCE, TAILS).tolist())
    assert torch.equal(logits, before)


def test_low_precision_logits_are_warped_in_float32(logits: Tensor) -> None:
    """Guards against temperatures applied in bfloat16, where many logits become equal."""
    half = logits.bfloat16()
    warped = Chooser.from_config(RequestConfig(temperature=0.7)).warp(half, SEQUENCE, TAILS)
    assert torch.equal(warped, half.float() / 0.7)


def test_a_token_that_may_not_be_chosen_never_is() -> None:
    """Guards against noise that lifts a forbidden token."""
    logits = torch.zeros(1, VOCAB)
    chosen = {
        int(
            Chooser.from_config(RequestConfig(temperature=1.0, top_k=1, seed=seed)).choose(
                logits + torch.arange(VOCAB), SEQUENCE, [()]
            )
        )
        for seed in range(50)
    }
    assert chosen == {VOCAB - 1}
