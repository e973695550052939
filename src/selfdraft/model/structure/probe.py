"""A few tokens, on which a model is tried out when it is loaded.

The model reads them from the start, without a cache, and our view of it from a cache, as a chain or
a tree. The logits must agree.
"""

import inspect
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.attention.interface import IMPLEMENTATION
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.placement import running_device
from selfdraft.model.sharing import FAILURES, share
from selfdraft.model.structure.certificate import Certificate, LogitsSample
from selfdraft.model.structure.discovery import find_layer_list, learn_layers
from selfdraft.model.structure.sublayers import DecoderLayers
from selfdraft.model.structure.tracing import TracedLayers
from selfdraft.model.view import ModelView

# Two ways to compute the same logits may differ by this share of the largest one.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_LOW_PRECISION_TOLERANCE = 0.1


def decoder_config(model: PreTrainedModel) -> PreTrainedConfig:
    """The config of the decoder, which in a model of several parts is a part of the config."""
    return model.config.get_text_config(decoder=True)


class Probe:
    """Runs a model on a few tokens, from the start and in steps, and compares."""

    def __init__(self, model: PreTrainedModel, own_parts: Mapping[nn.Module, nn.Module]) -> None:
        """Views of `model` have `own_parts` in the place of some of its modules."""
        self._model = model
        self._own_parts = own_parts
        self.problem = ""
        num_tokens = decoder_config(model).vocab_size
        *self._prompt, self._root, self._child, self._sibling = (
            (7 * i * i + 11 * i + 3) % num_tokens for i in range(7)
        )

    def certify(self, attention: str | None) -> tuple[PreTrainedModel, Certificate] | None:
        """A view with `attention` and what is certified of it; or None, and `problem`."""
        learned = self._learn(attention)
        if learned is None:
            return None
        view, layers = learned
        # The number of logits is asked of them, because a quantised head does not show it.
        vocab_size = self._expected.shape[-1]
        supports_trees = attention is not None
        sample = LogitsSample.of(self._expected if supports_trees else self._expected[:2])
        return view, Certificate(layers, supports_trees, vocab_size, sample)

    def recognise(self, certificate: Certificate) -> PreTrainedModel | None:
        """A view that still gives the logits of `certificate`; else None, and `problem`.

        One pass over all weights, in which prompt, root, child and sibling are one tree.
        """
        attention = IMPLEMENTATION if certificate.supports_trees else None
        view = share(self._model, self._own_parts, attention)
        tokens = [*self._prompt, self._root, self._child]
        paths = [tuple(range(row + 1)) for row in range(len(tokens))]
        if certificate.supports_trees:
            paths.append((*paths[-2], len(tokens)))
            tokens.append(self._sibling)
        try:
            runner = ModelView(view, supports_trees=certificate.supports_trees)
            cache = KVCache(certificate.layers.num_layers, len(tokens))
            logits = runner.forward(cache, tokens, tuple(paths))[len(self._prompt) :]
            self._require_close(certificate.logits.difference(logits), certificate.logits.largest)
            return view
        except FAILURES as error:
            self.problem = _described(error)
            return None

    def _learn(self, attention: str | None) -> tuple[PreTrainedModel, DecoderLayers] | None:
        list_name = find_layer_list(self._model)
        view = share(self._model, self._own_parts, attention)
        runner = ModelView(view, supports_trees=attention is not None)
        try:
            with TracedLayers(view, list_name) as traced:
                cache = traced.new_cache(len(self._prompt))
                runner.prefill(cache, self._prompt)
            self._require_same_logits(runner, cache)
            cache.rewind(0)  # so that a layer's call can be repeated as it was
            return view, learn_layers(view, list_name, traced.traces)
        except FAILURES as error:
            self.problem = _described(error)
            return None

    def _require_same_logits(self, view: ModelView, cache: KVCache) -> None:
        """Certificate (b), for a tree or a chain behind a prefix; and no state but the cache's."""
        tokens = [self._root, self._child]
        paths: tuple[tuple[int, ...], ...] = ((0,), (0, 1))
        if view.supports_trees:
            tokens, paths = [*tokens, self._sibling], (*paths, (0, 2))
        self._compare(view.forward(cache, tokens, paths), self._expected[: len(tokens)])
        self._compare(view.forward(cache, tokens[:1], paths[:1]), self._expected[:1])

    def _compare(self, found: Tensor, expected: Tensor) -> None:
        difference = float((found.double() - expected.double()).abs().max())
        self._require_close(difference, float(expected.abs().max()))

    def _require_close(self, difference: float, largest: float) -> None:
        tolerance = _TOLERANCE.get(self._model.dtype, _LOW_PRECISION_TOLERANCE)
        if not difference <= tolerance * largest:
            raise UnsupportedModelError(f"logits differ by {difference:.3g}")

    @cached_property
    @torch.inference_mode()
    def _expected(self) -> Tensor:
        """Logits after root, child and sibling, by the model itself in one pass without a cache."""
        rows = [[*self._prompt, self._root, last] for last in (self._child, self._sibling)]
        token_ids = torch.tensor(rows, device=running_device(self._model))
        keeps_some = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        extra = {"logits_to_keep": 2} if keeps_some else {}
        logits = share(self._model, {})(input_ids=token_ids, use_cache=False, **extra).logits
        return torch.stack([logits[0, -2], logits[0, -1], logits[1, -1]])


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
