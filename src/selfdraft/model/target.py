"""The target: the user's model, which alone decides the text."""

from functools import cached_property, partial
from types import MappingProxyType

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.attention.interface import IMPLEMENTATION
from selfdraft.model.cache.cache_argument import CACHE_ARGUMENTS, cache_argument
from selfdraft.model.cache.kv_cache import KVCache
from selfdraft.model.draft_plan import DraftPlan, WeightBits
from selfdraft.model.kernels import tile_linear
from selfdraft.model.kernels.own_parts import own_parts
from selfdraft.model.kernels.packing import pack_linears, unpack_linears
from selfdraft.model.layer_walk import LayerWalk
from selfdraft.model.sharing import FAILURES, share
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.structure.certifying import certify
from selfdraft.model.structure.discovery import layer_stubs
from selfdraft.model.structure.fingerprint import Fingerprint, fingerprint_of
from selfdraft.model.structure.probe import decoder_config
from selfdraft.model.structure.step_bytes import StepBytes
from selfdraft.model.structure.stubs import StubModule
from selfdraft.model.structure.sublayers import DecoderLayers
from selfdraft.model.view import ModelView
from selfdraft.model.weights.copy_cache import CopyCache
from selfdraft.model.weights.low_bit import LowBitCopies, Substitutes
from selfdraft.storage.huge_pages import HugePages
from selfdraft.storage.progress import first_line

# What a cache of keys and values can roll back; everything else has a state that moves on.
_ROLLED_BACK = {"full_attention", "sliding_attention", "chunked_attention", "dummy"}


class Target(ModelView):
    """The full model, and the source of drafts of it."""

    def __init__(
        self,
        model: PreTrainedModel,
        fingerprint: Fingerprint | None = None,
        *,
        draft_memory_limit: int | None = None,
        keeps_copies: bool = False,
    ) -> None:
        """Learn the model's structure and certify that it is computed rightly.

        What is known of a model with this fingerprint from an earlier time is not learned again.
        The fingerprint is taken here unless it is given; where the weights have been packed since
        they were loaded, give the one that was taken before.

        `draft_memory_limit` are the bytes that copies of the weights in fewer bits may take; 0 is
        no copy, None no limit. Copies are read from disk where they are kept; `keeps_copies` writes
        them there (`copy_cache`).

        Raises:
            UnsupportedModelError: the model cannot be decoded speculatively without risk.
        """
        _require_decoder_only(model)
        self.model = model
        self.fingerprint = fingerprint or fingerprint_of(model)
        self._own_parts = own_parts(model)
        certified = certify(model, self.fingerprint, self._own_parts)
        certificate = certified.certificate
        self.layers: DecoderLayers = certificate.layers
        self._vocab_size = certificate.vocab_size
        self._attention = IMPLEMENTATION if certificate.supports_trees else None
        list_name = certificate.layers.list_name
        copy_cache = CopyCache(self.fingerprint.weights, is_written=keeps_copies)
        self._low_bit = LowBitCopies(
            model, list_name, draft_memory_limit, self._try_out, copy_cache
        )
        super().__init__(certified.view, supports_trees=certificate.supports_trees)

    @classmethod
    def packed(
        cls,
        model: PreTrainedModel,
        *,
        draft_memory_limit: int | None = None,
        keeps_copies: bool = False,
    ) -> "Target":
        """The target of a model that may be changed: its weights are laid where they are read fast.

        In large pages, and linears that oneDNN runs in its own layout, if the model runs so.

        Raises:
            UnsupportedModelError: as for the model itself.
        """
        fingerprint = fingerprint_of(model)  # packed weights cannot be read
        if not tile_linear.is_there():
            pack_linears(model)
        HugePages().take(model)
        make = partial(
            cls,
            model,
            fingerprint,
            draft_memory_limit=draft_memory_limit,
            keeps_copies=keeps_copies,
        )
        try:
            return make()
        except FAILURES:  # its code may read a weight by itself
            unpack_linears(model)
            return make()

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.model.dtype

    @property
    def max_context(self) -> int | None:
        """Most tokens that prompt and output may have together, where the model has a limit."""
        config = decoder_config(self.model)
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
        """A view of this model that is made cheaper as `plan` says.

        Raises:
            SkipSetError: the plan skips a sublayer that may not be skipped.
            ConfigError: a copy of the weights in fewer bits would exceed the memory limit.
            UnsupportedModelError: the model can have no such copy.
        """
        self.layers.require_skippable(plan.skip_set)
        rounded = self._low_bit.substitutes(plan.weight_bits)
        module = self._without(set(plan.skip_set.attention), set(plan.skip_set.mlp), rounded)
        return ModelView(module, supports_trees=self.supports_trees)

    def predict_copy_bytes(self, bits: WeightBits) -> int:
        """Bytes of the copy of the weights that drafts with `bits` share; 0 if there can be none.

        Known before it is made, and exact.
        """
        return self._low_bit.predict_bytes(bits)

    @property
    def copy_problem(self) -> str | None:
        """Why this model can have no copy of its weights in fewer bits; None if it can."""
        return self._low_bit.problem()

    @property
    def copy_bytes(self) -> dict[WeightBits, int]:
        """Bytes of each copy of the weights that has been made, by its bits."""
        return self._low_bit.num_bytes

    @property
    def copy_cache(self) -> CopyCache:
        """Where copies of the weights are kept on disk."""
        return self._low_bit.cache

    def _try_out(self, rounded: Substitutes) -> None:
        """Raise `UnsupportedModelError` if the model does more with a linear than to call it."""
        view = ModelView(self._without(set(), set(), rounded), supports_trees=self.supports_trees)
        try:
            view.forward(self.new_cache(1), [0], ((0,),))
        except FAILURES as error:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} does not run with rounded weights "
                f"({first_line(error)}): draft with weight_bits=16"
            ) from error

    def _without(
        self, attention: set[int], mlp: set[int], rounded: Substitutes = MappingProxyType({})
    ) -> PreTrainedModel:
        stubs = layer_stubs(self.layers, attention, mlp)
        left_out = {self.model.get_submodule(n): StubModule(s) for n, s in stubs.items()}
        return self._shared({**rounded, **left_out})

    def _shared(self, substitutes: dict[nn.Module, nn.Module]) -> PreTrainedModel:
        return share(self.model, {**self._own_parts, **substitutes}, self._attention)

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
    layer_types, _ = get_layer_types_and_kwargs(decoder_config(model))
    for index, layer_type in enumerate(layer_types):
        if layer_type not in _ROLLED_BACK:
            raise UnsupportedModelError(
                f"layer {index} of {name} is of type {layer_type}, whose state cannot be rolled "
                "back: use model.generate() of transformers"
            )
    if model._is_stateful:
        raise UnsupportedModelError(
            f"{name} keeps a recurrent state, which cannot be rolled back: use model.generate() of "
            "transformers"
        )
    if cache_argument(model) is None:
        raise UnsupportedModelError(
            f"{name} takes no cache of keys and values (its forward has none of the arguments "
            f"{', '.join(CACHE_ARGUMENTS)}): use model.generate() of transformers"
        )


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
