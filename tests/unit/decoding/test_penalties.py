"""Penalties and biases: the arithmetic, against OpenAI's formula written down again."""

import pytest
import torch
from transformers import LogitsProcessorList

from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.penalties import FrequencyPresencePenalty, LogitBias
from selfdraft.errors import ConfigError


def scores_of(*scores: float) -> torch.Tensor:
    return torch.tensor([scores])


def test_the_formula() -> None:
    """Guards the counts: token 1 stands in the prompt only, 2 twice and 3 once in the output."""
    penalty = FrequencyPresencePenalty(3, frequency=0.5, presence=0.25)
    prefix = torch.tensor([[1, 1, 2, 2, 3, 2]])
    penalised = penalty(prefix, scores_of(1.0, 1.0, 1.0, 1.0))
    assert penalised.tolist() == [[1.0, 1.0, 1.0 - 2 * 0.5 - 0.25, 1.0 - 0.5 - 0.25]]


def test_negative_penalties_and_no_output() -> None:
    """Guards penalties below zero, which reward, and the first token, before which nothing is."""
    penalty = FrequencyPresencePenalty(2, frequency=-0.5, presence=0.0)
    scores = scores_of(1.0, 2.0)
    assert penalty(torch.tensor([[0, 1]]), scores).tolist() == [[1.0, 2.0]]
    assert penalty(torch.tensor([[0, 1, 1]]), scores).tolist() == [[1.0, 2.5]]


def test_each_row_has_its_own_output() -> None:
    """Guards transformers' own use, where a batch has several rows."""
    penalty = FrequencyPresencePenalty(1, frequency=1.0, presence=0.0)
    penalised = penalty(torch.tensor([[0, 0], [0, 1]]), torch.zeros(2, 2))
    assert penalised.tolist() == [[-1.0, 0.0], [0.0, -1.0]]


def test_the_scores_are_not_changed_in_place() -> None:
    """Guards the logits that log-probabilities are made of, and other nodes of the same tree."""
    scores = scores_of(1.0, 1.0)
    FrequencyPresencePenalty(0, 1.0, 1.0)(torch.tensor([[0]]), scores)
    LogitBias({0: 5.0})(torch.tensor([[0]]), scores)
    assert scores.tolist() == [[1.0, 1.0]]


def test_biases_are_added() -> None:
    """Guards the tokens that a bias is for, in every row."""
    biased = LogitBias({0: -100.0, 2: 1.5})(torch.tensor([[7]]), torch.zeros(2, 3))
    assert biased.tolist() == [[-100.0, 0.0, 1.5]] * 2
    assert LogitBias({})(torch.tensor([[7]]), torch.ones(1, 3)).tolist() == [[1.0] * 3]


@pytest.mark.parametrize("token_id", [3, -1])
def test_a_bias_for_no_token_is_refused(token_id: int) -> None:
    """Guards against an IndexError in the middle of a round, and -1 for the last token."""
    with pytest.raises(ConfigError, match=rf"token ids \[{token_id}\].*give 0 to 2"):
        LogitBias({1: 1.0, token_id: 1.0})(torch.tensor([[0]]), torch.zeros(1, 3))


def test_a_bias_alone_needs_no_prefixes() -> None:
    """Guards the speed: one call for all nodes of a tree, as with a temperature."""
    calls = []

    class Counting(LogitBias):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            calls.append(scores.shape[0])
            return super().__call__(input_ids, scores)

    logits, tails = torch.zeros(3, 4), [(), (1,), (2,)]
    plain = Chooser.from_config(RequestConfig(), [LogitBias({1: 1.0})])
    subclassed = Chooser(LogitsProcessorList([Counting({1: 1.0})]), None)  # may look at the prefix
    assert torch.equal(plain.warp(logits, [0], tails), subclassed.warp(logits, [0], tails))
    assert calls == [1, 1, 1]
    assert plain.choose(logits, [0], tails).tolist() == [1, 1, 1]
