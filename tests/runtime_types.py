"""The run-time type checker of the tests: beartype, where it can look."""

from collections.abc import Callable
from typing import Any

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep3119Exception


def check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which now raises when an argument or its result has another type or shape."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep3119Exception:
        return function  # it takes a Protocol that is not marked `runtime_checkable`
