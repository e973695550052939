"""What transformers' `generate` takes, and which of it `custom_generate` honours.

What cannot change the text is let through, what would change it is honoured or refused by name, and
what a newer version of transformers adds is refused until somebody has looked at it.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor
from transformers import GenerationConfig

from selfdraft.errors import ConfigError
from selfdraft.model.cache.cache_argument import CACHE_ARGUMENTS
from selfdraft.model.cache.given_cache import given_cache, problem_with

# What `generate` turns into the processors, criteria and lengths that arrive here.
_IN_PROCESSORS = """
    temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff repetition_penalty
    encoder_repetition_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    renormalize_logits forced_bos_token_id forced_eos_token_id remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens sequence_bias
    min_length min_new_tokens
"""
_IN_CRITERIA = """
    max_length max_new_tokens max_time stop_strings do_sample token_healing pad_token_id
    bos_token_id eos_token_id decoder_start_token_id return_dict_in_generate
"""
# What cannot change a token: speed, memory, and options of beams, which are refused themselves.
_WITHOUT_EFFECT = """
    use_cache cache_implementation cache_config max_cache_len prefill_chunk_size compile_config
    disable_compile low_memory continuous_batching_config early_stopping length_penalty use_mtp
    num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold
    prompt_lookup_num_tokens max_matching_ngram_size assistant_early_exit assistant_lookbehind
    target_lookbehind assistant_ensemble_weight speculation_type
"""
_HONOURED = frozenset(f"{_IN_PROCESSORS} {_IN_CRITERIA} {_WITHOUT_EFFECT}".split())

# Of all other options, the values that switch them off.
_NEUTRAL = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "guidance_scale": 1,
    "diversity_penalty": 0,
}

# Inputs of the model that are looked at here or cannot change a token.
_INPUTS = frozenset(
    [*CACHE_ARGUMENTS, "attention_mask", "position_ids", "use_cache", "logits_to_keep"]
)


def require_supported(
    input_ids: Tensor, config: GenerationConfig, inputs: Mapping[str, object]
) -> None:
    """Refuse what `generate` takes and `custom_generate` would not honour.

    Raises:
        ConfigError: with the names of all of it.
    """
    num_tokens = input_ids.shape[1]
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    # A cache that `generate` made by `cache_implementation` is nobody's but its own.
    own_cache = None if config.cache_implementation else given_cache(inputs)
    wrong = [
        "a batch of several sequences" if input_ids.shape[0] > 1 else "",
        *_unhonoured(config),
        *(name for name, value in inputs.items() if value is not None and name not in _INPUTS),
        "padding in attention_mask" if not _is_full(mask, num_tokens) else "",
        "an attention_mask of another length than the prompt"
        if getattr(config, "_mask_length", num_tokens) != num_tokens
        else "position_ids that do not count from 0"
        if not _counts_up(positions, num_tokens)
        else "",
        problem_with(own_cache),
    ]
    if named := [name for name in wrong if name]:
        raise ConfigError(
            f"custom_generate does not support {', '.join(named)}: leave it out, or call generate "
            "without custom_generate"
        )


def _unhonoured(config: GenerationConfig) -> Iterator[str]:
    """The names of options that are switched on and would be ignored, new ones included."""
    for name, value in vars(config).items():
        is_private = name.startswith("_") or name == "transformers_version"
        if is_private or name in _HONOURED:  # whose values may be tensors
            continue
        if value not in (None, False, _NEUTRAL.get(name)):
            yield name


def _is_full(mask: object, num_tokens: int) -> bool:
    """Whether every token of the prompt is to be seen; no mask says so too."""
    if not isinstance(mask, Tensor):
        return mask is None
    return mask.shape[-1] == num_tokens and bool(mask.all())


def _counts_up(positions: object, num_tokens: int) -> bool:
    """Whether positions are those of a text from its start; `generate` makes them so itself."""
    if not isinstance(positions, Tensor):
        return positions is None
    return positions.flatten().tolist() == list(range(num_tokens))
