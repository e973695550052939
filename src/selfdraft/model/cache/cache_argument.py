"""The name under which a model takes its cache of keys and values.

transformers renamed the argument in 5.24, and models that come with their own code keep the older
name. So the signature is asked, and nothing else of the package spells the name.
"""

import inspect

from transformers import PreTrainedModel

CACHE_ARGUMENTS = ("cache", "past_key_values")
"""The names that models use, the newest first."""


def cache_argument(model: PreTrainedModel) -> str | None:
    """The argument of the model's `forward` that takes a cache; None if it takes none."""
    parameters = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_ARGUMENTS if name in parameters), None)
