"""The target: the user's model, which alone decides the text."""

import inspect
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.attention import IMPLEMENTATION
from selfdraft.model.discovery import find_layer_list, layer_stubs, learn_layers
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.model.kv_cache import KVCache
from selfdraft.model.layer_walk import LayerWalk
from selfdraft.model.packing import pack_linears, unpack_linears
from selfdraft.model.placement import running_device
from selfdraft.model.quantisation import is_quantised
from selfdraft.model.sharing import share
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.step_bytes import StepBytes
from selfdraft.model.stubs import StubModule
from selfdraft.model.sublayers import DecoderLayers
from selfdraft.model.tracing import TracedLayers
from selfdraft.model.view import ModelView

# What a cache of keys and values can roll back; everything else has a state that moves on.
_ROLLED_BACK = {"full_attention", "sliding_attention", "chunked_attention", "dummy"}

# Two ways to compute the same logits may differ by this share of the largest one.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_LOW_PRECISION_TOLERANCE = 0.1

# A model that is run in a way it was not written for fails with one of these.
_FAILURES = (
    TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, AssertionError,
    UnsupportedModelError,
)  # fmt: skip


class Target(ModelView):
    """The full model, and the source of drafts of it."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Learn the model's structure and certify that it is computed rightly.

        Raises:
            UnsupportedModelError: the model cannot be decoded speculatively without risk.
        """
        _require_decoder_only(model)
        self.model = model
        list_name = find_layer_list(model)
        probe = _Probe(model, list_name)
        learned = probe.learn(IMPLEMENTATION)
        supports_trees = learned is not None
        if learned is None:
            learned = probe.learn(None)
        if learned is None:
            raise UnsupportedModelError(
                f"{type(model).__name__} gives other logits when it continues from a cache than "
                f"from the start ({probe.problem}): {_remedy(model)}"
            )
        view, layers = learned
        self.layers: DecoderLayers = layers
        self._vocab_size = probe.vocab_size
        self._attention = IMPLEMENTATION if supports_trees else None
        super().__init__(view, supports_trees=supports_trees)

    @classmethod
    def packed(cls, model: PreTrainedModel) -> "Target":
        """The target of a model that may be changed: its linears are packed, if it runs so.

        Raises:
            UnsupportedModelError: as for the model itself.
        """
        pack_linears(model)
        try:
            return cls(model)
        except _FAILURES:  # its code may read a weight by itself
            unpack_linears(model)
            return cls(model)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.model.dtype

    @property
    def max_context(self) -> int | None:
        """Most tokens that prompt and output may have together, where the model has a limit."""
        config = _text_config(self.model)
        limits = [getattr(config, "max_position_embeddings", None), _rope_border(config)]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def vocab_size(self) -> int:
        """Entries of a row of logits."""
        return self._vocab_size

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a text, as the model's generation config names them."""
        ids = self.model.generation_config.eos_token_id if self.model.generation_config else None
        if ids is None:
            return frozenset()
        return frozenset([ids] if isinstance(ids, int) else ids)

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache with room for `capacity` rows; it grows when they do not suffice."""
        return KVCache(self.layers.num_layers, capacity)

    def draft_view(self, plan: DraftPlan) -> ModelView:
        """The same model made cheaper as `plan` says.

        Raises:
            SkipSetError: the plan skips a sublayer that may not be skipped.
            UnsupportedModelError: there are no weights of so few bits.
        """
        self.layers.require_skippable(plan.skip_set)
        if plan.weight_bits != 16:
            raise UnsupportedModelError(
                f"weight_bits is {plan.weight_bits}: this model has no copy of its weights in "
                "fewer bits, draft with weight_bits=16"
            )
        module = self._without(set(plan.skip_set.attention), set(plan.skip_set.mlp))
        return ModelView(module, supports_trees=self.supports_trees)

    def _without(self, attention: set[int], mlp: set[int]) -> PreTrainedModel:
        stubs = layer_stubs(self.layers, attention, mlp)
        return self._shared({self.model.get_submodule(n): StubModule(s) for n, s in stubs.items()})

    def _shared(self, substitutes: dict[nn.Module, nn.Module]) -> PreTrainedModel:
        return share(self.model, substitutes, self._attention)

    @cached_property
    def layer_walk(self) -> LayerWalk:
        """A walk whose ways to run a layer are: all of it, without attention, without the MLP.

        Only layers of `layers.eligible_alone` have all three; the others run whole in each way.
        """
        alone = set(self.layers.eligible_alone)
        ways = [
            self._without(set(), set()),
            self._without(alone, set()),
            self._without(set(), alone),
        ]
        return LayerWalk(self.model, ways, self.layers.list_name, self._shared)

    @cached_property
    def step_bytes(self) -> StepBytes:
        """The bytes of weights that a pass reads."""
        return StepBytes.of(self.model, self.layers)

    def uniform_skip_set(self, skip_ratio: float) -> SkipSet:
        """The evenly spread skip set of this model at `skip_ratio`."""
        return SkipSet.uniform(self.layers.eligible, skip_ratio)


def _require_decoder_only(model: PreTrainedModel) -> None:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{name} is an encoder-decoder model: give a decoder-only one")
    if model.get_output_embeddings() is None:
        raise UnsupportedModelError(
            f"{name} has no language-modelling head: load it with AutoModelForCausalLM"
        )
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModelError(
            f"{name} takes no past_key_values: it has a recurrent state, or no cache at all, and "
            "nothing that could be rolled back: use model.generate() of transformers"
        )
    layer_types, _ = get_layer_types_and_kwargs(_text_config(model))
    for index, layer_type in enumerate(layer_types):
        if layer_type not in _ROLLED_BACK:
            raise UnsupportedModelError(
                f"layer {index} of {name} is of type {layer_type}, whose state cannot be rolled "
                "back: use model.generate() of transformers"
            )


def _remedy(model: PreTrainedModel) -> str:
    if is_quantised(model):
        return (
            "its activations are probably quantised for all tokens of a pass together, so that a "
            "token's logits depend on the others: quantise the weights only, or activations token "
            "by token, or use model.generate() of transformers"
        )
    return "use model.generate() of transformers"


def _text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """The config of the decoder, which in a model of several parts is a part of the config."""
    return model.config.get_text_config(decoder=True)


def _rope_border(config: PreTrainedConfig) -> int | None:
    """The length behind which LongRoPE changes all rotary angles, where a model has one.

    The keys that are cached by then have the old angles, and transformers itself is not of one
    mind about what to do with them, so no text may grow over the border.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    own: int | None = getattr(config, "original_max_position_embeddings", None)
    return rope.get("original_max_position_embeddings", own)


class _Probe:
    """Runs a model on a few tokens, from the start and in steps, and compares."""

    def __init__(self, model: PreTrainedModel, list_name: str) -> None:
        self._model = model
        self._list_name = list_name
        self.problem = ""
        num_tokens = _text_config(model).vocab_size
        *self._prompt, self._root, self._child, self._sibling = (
            (7 * i * i + 11 * i + 3) % num_tokens for i in range(7)
        )
        self._expected = self._read_from_start()

    @property
    def vocab_size(self) -> int:
        """Entries of a row of logits; a quantised head does not show them."""
        return self._expected.shape[-1]

    def learn(self, attention: str | None) -> tuple[PreTrainedModel, DecoderLayers] | None:
        """A view with `attention` and its layers, if it can be run so; else None, and `problem`."""
        view = share(self._model, {}, attention)
        runner = ModelView(view, supports_trees=attention is not None)
        try:
            with TracedLayers(view, self._list_name) as traced:
                cache = traced.new_cache(len(self._prompt))
                runner.prefill(cache, self._prompt)
            self._require_same_logits(runner, cache)
            cache.rewind(0)  # so that a layer's call can be repeated as it was
            return view, learn_layers(view, self._list_name, traced.traces)
        except _FAILURES as error:
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
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
        tolerance = _TOLERANCE.get(self._model.dtype, _LOW_PRECISION_TOLERANCE)
        difference = float((found.double() - expected.double()).abs().max())
        if not difference <= tolerance * float(expected.abs().max()):
            raise UnsupportedModelError(f"logits differ by {difference:.3g}")

    @torch.inference_mode()
    def _read_from_start(self) -> Tensor:
        """Logits after root, child and sibling, by the model itself in one pass without a cache."""
        rows = [[*self._prompt, self._root, last] for last in (self._child, self._sibling)]
        token_ids = torch.tensor(rows, device=running_device(self._model))
        keeps_some = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        extra = {"logits_to_keep": 2} if keeps_some else {}
        logits = share(self._model, {})(input_ids=token_ids, use_cache=False, **extra).logits
        return torch.stack([logits[0, -2], logits[0, -1], logits[1, -1]])
