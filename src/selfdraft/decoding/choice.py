"""The choice: which token comes next, as a function of logits, prefix, seed and position.

Greedy decoding takes the largest logit. Sampling takes the largest of logit plus Gumbel noise,
which by the Gumbel-max trick draws from exactly softmax(logits). The noise is a function of the
request's seed and the token's position and of nothing else, so the choice does not depend on who
drafted what: drafter-invariant speculative decoding (Daliri et al. 2024, arXiv 2408.07978). A
drafter that ranks its own tokens with the same noise agrees with the target as often as can be.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
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
from selfdraft.decoding.penalties import LogitBias
from selfdraft.shapes import Choices, Logits, Noise, WarpedLogits

# Processors that look at the scores alone, so that nodes with different prefixes share a call.
_PREFIX_FREE = (
    LogitBias,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    MinPLogitsWarper,
)

# Positions whose noise is kept: a round drafts and then checks the same few positions.
_NUM_CACHED_POSITIONS = 32


class Chooser:
    """How one request turns logits into its next token.

    `seed` None is greedy. `processors` warp the logits first, whether greedy or not.
    """

    def __init__(self, processors: LogitsProcessorList, seed: int | None) -> None:
        self._processors = processors
        self._seed = seed
        self._needs_prefix = any(type(p) not in _PREFIX_FREE for p in processors)
        self._noise = lru_cache(_NUM_CACHED_POSITIONS)(gumbel_noise)

    @classmethod
    def from_config(cls, config: RequestConfig, extra: Sequence[LogitsProcessor] = ()) -> "Chooser":
        """The chooser for `config`; `extra` processors run after the repetition penalty."""
        processors = LogitsProcessorList()
        if config.repetition_penalty != 1.0:
            processors.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
        processors.extend(extra)
        if config.is_greedy:
            return cls(processors, seed=None)
        if config.temperature != 1.0:
            processors.append(TemperatureLogitsWarper(config.temperature))
        if config.top_k > 0:
            processors.append(TopKLogitsWarper(config.top_k))
        if config.top_p < 1.0:
            processors.append(TopPLogitsWarper(config.top_p))
        if config.min_p > 0:
            processors.append(MinPLogitsWarper(config.min_p))
        return cls(processors, config.seed)

    def warp(
        self, logits: Logits, sequence: Sequence[int], tails: Sequence[Sequence[int]]
    ) -> WarpedLogits:
        """Apply every processor. The prefix of row i is `sequence` followed by `tails[i]`."""
        scores = logits.to(torch.float32, copy=True)
        if not self._processors:
            return scores
        if not self._needs_prefix:
            return self._process(_as_batch(sequence[-1:], scores), scores)
        rows = [
            self._process(_as_batch([*sequence, *tail], scores), scores[i : i + 1])
            for i, tail in enumerate(tails)
        ]
        return torch.cat(rows)

    def perturb(self, warped: WarpedLogits, positions: Sequence[int]) -> WarpedLogits:
        """Add each row's noise; `positions[i]` is where the token chosen from row i will stand.

        The largest entry is the choice, the next ones its runners-up. Greedy adds nothing.
        """
        if self._seed is None:
            return warped
        noise = [self._noise(self._seed, position, warped.shape[1]) for position in positions]
        return warped + torch.stack(noise).to(warped.device)

    def choose(
        self,
        logits: Logits,
        sequence: Sequence[int],
        tails: Sequence[Sequence[int]],
    ) -> Choices:
        """The next token after each prefix `sequence + tails[i]`."""
        positions = [len(sequence) + len(tail) for tail in tails]
        return self.perturb(self.warp(logits, sequence, tails), positions).argmax(dim=-1)

    def _process(self, prefix: Tensor, scores: WarpedLogits) -> WarpedLogits:
        return self._processors(cast(torch.LongTensor, prefix), cast(torch.FloatTensor, scores))


def gumbel_noise(seed: int, position: int, vocab_size: int) -> Noise:
    """Standard Gumbel noise for one position of one request, the same on every device.

    Philox is a counter-based generator whose key it mixes thoroughly, so neighbouring seeds and
    positions give independent streams. Drawn in double precision: in single precision the small
    exponentials, which decide the choice, would be a coarse grid.
    """
    key = np.array([seed, position], dtype=np.uint64)  # a list would become floats from 2**63 on
    generator = np.random.Generator(np.random.Philox(key=key))
    exponential = torch.from_numpy(generator.standard_exponential(vocab_size))
    return exponential.log_().neg_().to(torch.float32)


def _as_batch(token_ids: Sequence[int], scores: WarpedLogits) -> Tensor:
    return torch.tensor([list(token_ids)], device=scores.device)
