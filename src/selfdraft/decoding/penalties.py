"""OpenAI's penalties and biases as logits processors of transformers, which has none of them.

Each is a function of the prefix and the scores alone, so a draft cannot change what it does.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import LogitsProcessor

from selfdraft.config import require


class FrequencyPresencePenalty(LogitsProcessor):
    """Makes tokens less likely that the output holds already; the prompt does not count.

    A token's score falls by `frequency` for each time it was written, and by `presence` once if it
    was written at all. Negative numbers make it likelier.
    """

    def __init__(self, num_prompt_tokens: int, frequency: float, presence: float) -> None:
        self._num_prompt_tokens = num_prompt_tokens
        self._frequency = frequency
        self._presence = presence

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores, each row's by its own output."""
        penalised = scores.clone()
        for row, output in zip(penalised, input_ids[:, self._num_prompt_tokens :], strict=True):
            token_ids, counts = output.unique(return_counts=True)
            row[token_ids] -= counts * self._frequency + self._presence
        return penalised


class LogitBias(LogitsProcessor):
    """Adds a number to the scores of some tokens, wherever they may come."""

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._token_ids = torch.tensor(list(biases), dtype=torch.long)
        self._biases = torch.tensor(list(biases.values()), dtype=torch.float32)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores with the biases added.

        Raises:
            ConfigError: a token is not in the vocabulary.
        """
        vocab_size = scores.shape[1]
        unknown = self._token_ids[(self._token_ids < 0) | (self._token_ids >= vocab_size)].tolist()
        require(
            not unknown,
            f"the logit bias names token ids {unknown}, which are not in the vocabulary: give 0 to "
            f"{vocab_size - 1}",
        )
        biased = scores.clone()
        biased[:, self._token_ids.to(scores.device)] += self._biases.to(scores)
        return biased
