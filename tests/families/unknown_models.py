"""Decoders that transformers has never heard of: nothing in them is called or built as usual.

`OddForCausalLM` computes attention by itself. `PoliteForCausalLM` goes through transformers'
attention interface and hands `**kwargs` down to it.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from cache_name import CACHE
from families import NUM_LAYERS, VOCAB_SIZE, scale_up
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

WIDTH = 64
NUM_HEADS = 4


def named_as_installed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` whose argument `memory` is called as the models of transformers call it."""

    def renamed(self: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(self, *args, memory=kwargs.pop(CACHE, None), **kwargs)

    signature = inspect.signature(forward)
    parameters = [
        parameter.replace(name=CACHE) if name == "memory" else parameter
        for name, parameter in signature.parameters.items()
    ]
    renamed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return renamed


class OddConfig(PretrainedConfig):
    model_type = "selfdraft-odd"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = VOCAB_SIZE
        self.hidden_size = WIDTH
        self.num_hidden_layers = NUM_LAYERS
        self.num_attention_heads = NUM_HEADS


def split_heads(rows: Tensor) -> Tensor:
    return rows.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention: the last query sees every key."""
    num_queries, num_keys = queries.shape[2], keys.shape[2]
    sees = torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
    scores = queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5
    weights = scores.masked_fill(~sees, -torch.inf).softmax(dim=-1)
    return (weights @ values).transpose(1, 2).flatten(2)


class OddMixer(nn.Module):
    """Attention in one matrix, which returns a tuple."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.everything = nn.Linear(WIDTH, 3 * WIDTH)
        self.back = nn.Linear(WIDTH, WIDTH)

    def forward(self, rows: Tensor, memory: Cache | None) -> tuple[Tensor, None]:
        queries, keys, values = map(split_heads, self.everything(rows).chunk(3, dim=-1))
        if memory is not None:
            keys, values = memory.update(keys, values, self.index)
        return self.back(attend(queries, keys, values)), None


class OddFeedForward(nn.Module):
    """An MLP that is given the residual stream and adds to it by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(WIDTH, 2 * WIDTH)
        self.narrow = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, rows: Tensor, stream: Tensor) -> Tensor:
        return stream + self.narrow(self.wide(rows).tanh())


class OddBlock(nn.Module):
    """Both sublayers read the same normed rows; the result is a tuple."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.n1 = nn.LayerNorm(WIDTH)
        self.mixer_a = OddMixer(index)
        self.ff = OddFeedForward()

    def forward(self, stream: Tensor, memory: Cache | None) -> tuple[Tensor, None]:
        rows = self.n1(stream)
        mixed, nothing = self.mixer_a(rows, memory)
        return self.ff(rows, stream + mixed), nothing


class FusedBlock(nn.Module):
    """Attention and MLP in one: the block itself writes the keys and values."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.n1 = nn.LayerNorm(WIDTH)
        self.everything = nn.Linear(WIDTH, 4 * WIDTH)
        self.back = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, stream: Tensor, memory: Cache | None) -> tuple[Tensor, None]:
        *heads, wide = self.everything(self.n1(stream)).chunk(4, dim=-1)
        queries, keys, values = map(split_heads, heads)
        if memory is not None:
            keys, values = memory.update(keys, values, self.index)
        both = torch.cat([attend(queries, keys, values), wide.tanh()], dim=-1)
        return stream + self.back(both), None


class OddForCausalLM(PreTrainedModel, GenerationMixin):
    """Positions are counted by the cache; blocks get no mask and no position ids."""

    config_class = OddConfig
    block_class: type[nn.Module] = OddBlock

    def __init__(self, config: OddConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(VOCAB_SIZE, WIDTH)
        self.places = nn.Embedding(128, WIDTH)
        self.blocks = nn.ModuleList([self.block_class(i) for i in range(NUM_LAYERS)])
        self.out = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def get_output_embeddings(self) -> nn.Module:
        return self.out

    @named_as_installed
    def forward(
        self,
        input_ids: Tensor,
        memory: Cache | None = None,
        use_cache: bool = True,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        memory = (DynamicCache() if memory is None else memory) if use_cache else None
        start = 0 if memory is None else memory.get_seq_length()
        places = torch.arange(start, start + input_ids.shape[1])
        stream = self.words(input_ids) + self.places(places)
        for block in self.blocks:
            stream, _nothing = block(stream, memory)
        return CausalLMOutputWithPast(logits=self.out(stream), **{CACHE: memory})


class OldForCausalLM(OddForCausalLM):
    """Calls its cache as models did before transformers 5.24, whatever is installed."""

    def forward(
        self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = True
    ) -> CausalLMOutputWithPast:
        return super().forward(input_ids, **{CACHE: past_key_values}, use_cache=use_cache)


class FusedForCausalLM(OddForCausalLM):
    block_class = FusedBlock


class PoliteMixer(nn.Module):
    """Attention through transformers' interface."""

    is_causal = True

    def __init__(self, config: OddConfig, index: int) -> None:
        super().__init__()
        self.config = config
        self.index = index
        self.num_key_value_groups = 1
        self.everything = nn.Linear(WIDTH, 3 * WIDTH)
        self.back = nn.Linear(WIDTH, WIDTH)

    def forward(self, rows: Tensor, mask: Any, memory: Cache | None, **kwargs: Any) -> Tensor:
        queries, keys, values = map(split_heads, self.everything(rows).chunk(3, dim=-1))
        if memory is not None:
            keys, values = memory.update(keys, values, self.index)
        function = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        scaling = queries.shape[3] ** -0.5
        attended, _ = function(self, queries, keys, values, mask, scaling=scaling, **kwargs)
        return self.back(attended.flatten(2))


class PoliteBlock(nn.Module):
    def __init__(self, config: OddConfig, index: int) -> None:
        super().__init__()
        self.n1 = nn.LayerNorm(WIDTH)
        self.mixer_a = PoliteMixer(config, index)
        self.n2 = nn.LayerNorm(WIDTH)
        self.ff = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.Tanh(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, stream: Tensor, mask: Any, memory: Cache | None, **kwargs: Any) -> Tensor:
        stream = stream + self.mixer_a(self.n1(stream), mask, memory, **kwargs)
        return stream + self.ff(self.n2(stream))


class PoliteForCausalLM(PreTrainedModel, GenerationMixin):
    """Takes position ids, asks transformers for its mask, and hands `**kwargs` down."""

    config_class = OddConfig
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: OddConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(VOCAB_SIZE, WIDTH)
        self.places = nn.Embedding(128, WIDTH)
        self.blocks = nn.ModuleList([PoliteBlock(config, i) for i in range(NUM_LAYERS)])
        self.out = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def get_output_embeddings(self) -> nn.Module:
        return self.out

    @named_as_installed
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        memory: Cache | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        memory = (DynamicCache() if memory is None else memory) if use_cache else None
        start = 0 if memory is None else memory.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(start, start + input_ids.shape[1])[None]
        stream = self.words(input_ids) + self.places(position_ids)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=stream,
            attention_mask=attention_mask,
            **{CACHE: memory},
            position_ids=position_ids,
        )
        for block in self.blocks:
            stream = block(stream, mask, memory, **kwargs)
        return CausalLMOutputWithPast(logits=self.out(stream), **{CACHE: memory})


def build(model_class: type[PreTrainedModel]) -> PreTrainedModel:
    """A seeded model of one of the classes above."""
    torch.manual_seed(0)
    model = model_class(OddConfig()).eval()
    scale_up(model)
    return model
