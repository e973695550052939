"""The target: the user's model, which alone decides the text."""

import torch
from transformers import PreTrainedModel

from selfdraft.model.kv_cache import KVCache
from selfdraft.model.skip_set import SkipSet
from selfdraft.model.sublayers import find_decoder_layers
from selfdraft.model.view import ModelView


class Target(ModelView):
    """The full model, and the source of drafts of it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.layers = find_decoder_layers(model)
        super().__init__(model, self.layers, SkipSet())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.model.dtype

    @property
    def max_context(self) -> int | None:
        """Most tokens that prompt and output may have together, where the model has a limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def vocab_size(self) -> int:
        """Entries of a row of logits."""
        weight = self.model.get_output_embeddings().weight
        return int(weight.shape[0])

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

    def draft_view(self, skip_set: SkipSet) -> ModelView:
        """The same model without the sublayers of `skip_set`.

        Raises:
            SkipSetError: the set names a sublayer that may not be skipped.
        """
        return ModelView(self.model, self.layers, skip_set)

    def uniform_skip_set(self, skip_ratio: float) -> SkipSet:
        """The evenly spread skip set of this model at `skip_ratio`."""
        return SkipSet.uniform(self.layers.eligible, skip_ratio)
