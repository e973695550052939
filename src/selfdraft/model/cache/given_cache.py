"""The cache that transformers' `generate` was given, or has made for itself."""

from collections.abc import Mapping
from typing import Any

from transformers.cache_utils import DynamicCache
from transformers.generation.utils import GenerateDecoderOnlyOutput

from selfdraft.model.cache.cache_argument import CACHE_ARGUMENTS
from selfdraft.model.cache.kv_cache import KVCache


def given_cache(model_kwargs: Mapping[str, object]) -> object:
    """The cache among the inputs of a model, under any name it ever had; None if there is none."""
    names = (*CACHE_ARGUMENTS, "cache_params")
    return next((model_kwargs[name] for name in names if model_kwargs.get(name) is not None), None)


def problem_with(cache: object) -> str | None:
    """Why `cache` cannot be filled with what was decoded; None if it can, or is none."""
    if cache is None:
        return None
    if type(cache) is not DynamicCache:
        return f"a past_key_values (or cache) of class {type(cache).__name__}, only a DynamicCache"
    if cache.get_seq_length() > 0:
        return "a past_key_values (or cache) that is not empty"
    return None


def fill(cache: object, decoded: KVCache) -> None:
    """Write the rows of `decoded` into `cache`, if that is a cache without a problem."""
    if isinstance(cache, DynamicCache) and problem_with(cache) is None:
        decoded.copy_into(cache)


def named_in_output(cache: object) -> dict[str, Any]:
    """A cache that was filled, under the field that `generate`'s result has for it."""
    if not isinstance(cache, DynamicCache):
        return {}
    fields = GenerateDecoderOnlyOutput.__dataclass_fields__
    return {next(name for name in CACHE_ARGUMENTS if name in fields): cache}
