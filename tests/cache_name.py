"""The name that the installed version of transformers has for a cache."""

import inspect

from transformers.masking_utils import create_causal_mask

CACHE = (
    "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"
)
"""As an argument of models and of `generate`, and as a field of what both return."""
