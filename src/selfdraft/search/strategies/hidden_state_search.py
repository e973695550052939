"""Skip sets by dynamic programming on hidden states, one for every size, in a single pass.

After CLaSp (arXiv 2505.24196): a good draft is one whose hidden states stay close to those of the
full model. Let D(i, b) be the hidden state after layer i of the best draft that skipped b
sublayers so far. It is made of D(i-1, b) by running layer i, of D(i-1, b-1) by running one of its
sublayers, or is D(i-1, b-2) itself; of these, the one that points most in the direction of the full
model's state (cosine) is kept. The states of all b go through each layer together, as siblings in
a token tree. Greedy where CLaSp is: an exact optimum would need every set.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from selfdraft.model.layer_walk import RunLayer
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.target import Target
from selfdraft.search.matchness import Window

# What can become of a layer, with the number of sublayers it skips.
_RUN, _NO_ATTENTION, _NO_MLP, _SKIP = range(4)
_NUM_SKIPPED = (0, 1, 1, 2)


@torch.inference_mode()
def search_hidden_states(
    target: Target, window: Window, max_skipped: int, num_tokens: int = 1
) -> list[SkipSet]:
    """For each number of skipped sublayers from 0 to `max_skipped`, the set found; fewer may do.

    `num_tokens` tokens at the end of the window are followed; their cosines are averaged.
    """
    walk = _Walk(target, max_skipped, num_tokens)
    first_row = window.end - 1 - num_tokens
    stride = max_skipped + 1
    inputs = window.token_ids[first_row : window.end - 1]
    token_ids = [token_id for token_id in inputs for _ in range(stride)]
    full_rows = [number * stride for number in range(num_tokens)]
    paths = tuple(
        (*full_rows[:number], number * stride + budget)
        for number in range(num_tokens)
        for budget in range(stride)
    )
    with window.cache.rewound(first_row):
        target.layer_walk.run(window.cache, token_ids, paths, walk.step)
    return walk.skip_sets()


class _Walk:
    """The table of the dynamic programme, filled layer by layer.

    Hidden states have the shape `[tokens, budgets, width]`; budget 0 is the full model.
    """

    def __init__(self, target: Target, max_skipped: int, num_tokens: int) -> None:
        self._whole = set(target.layers.eligible)
        self._alone = set(target.layers.eligible_alone)
        self._num_tokens = num_tokens
        self._choices: list[list[int]] = []  # by layer and budget
        self._is_reachable = torch.zeros(max_skipped + 1, dtype=torch.bool)
        self._is_reachable[0] = True

    def step(self, index: int, hidden: Tensor, ways: Sequence[RunLayer]) -> Tensor:
        """Keep, for every budget, the best of what a layer can become."""
        before = self._by_budget(hidden)
        # The first way comes last, so that the cache holds what the full model writes.
        results = {_SKIP: before} if index in self._whole else {}
        if index in self._alone:
            results[_NO_ATTENTION] = self._by_budget(ways[1]())
            results[_NO_MLP] = self._by_budget(ways[2]())
        results[_RUN] = self._by_budget(ways[0]())
        full = results[_RUN][:, :1]
        best, reachable = torch.full(before.shape[1:2], -torch.inf), self._is_reachable
        after, choice = results[_RUN].clone(), torch.full_like(reachable, _RUN, dtype=torch.int)
        for kind, result in sorted(results.items()):
            shifted = _shift(result, _NUM_SKIPPED[kind])
            similarity = torch.cosine_similarity(shifted.float(), full.float(), dim=-1).mean(dim=0)
            similarity = similarity.cpu().masked_fill(
                ~_shift(reachable[None, :, None], _NUM_SKIPPED[kind])[0, :, 0], -torch.inf
            )
            is_better = similarity > best
            best = torch.where(is_better, similarity, best)
            after[:, is_better] = shifted[:, is_better]
            choice[is_better] = kind
        self._is_reachable = best > -torch.inf
        self._choices.append(choice.tolist())
        return after.reshape(hidden.shape)

    def skip_sets(self) -> list[SkipSet]:
        """The set behind each budget that can be reached."""
        budgets = self._is_reachable.nonzero().flatten().tolist()
        return [self._trace_back(budget) for budget in budgets]

    def _trace_back(self, budget: int) -> SkipSet:
        attention, mlp = [], []
        for index in reversed(range(len(self._choices))):
            kind = self._choices[index][budget]
            if kind in (_NO_ATTENTION, _SKIP):
                attention.append(index)
            if kind in (_NO_MLP, _SKIP):
                mlp.append(index)
            budget -= _NUM_SKIPPED[kind]
        assert budget == 0, "every budget was reached from nothing skipped"
        return SkipSet(tuple(attention), tuple(mlp))

    def _by_budget(self, hidden: Tensor) -> Tensor:
        return hidden.reshape(self._num_tokens, -1, hidden.shape[-1])


def _shift(states: Tensor, num_skipped: int) -> Tensor:
    """What budget b gets from budget b - num_skipped; zeros where there is none."""
    if num_skipped == 0:
        return states
    shifted = torch.zeros_like(states)
    shifted[:, num_skipped:] = states[:, :-num_skipped]
    return shifted
