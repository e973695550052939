"""The run-time type checker of the tests: beartype, where it can look."""

from collections.abc import Callable
from typing import Any

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep3119Exception


def check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which now raises when an argument or its result has another type or shape."""
    if "<locals>" in function.__qualname__:
        return function  # its checks would be compiled anew in every call of the function around it
    try:
        return beartype(function)
    except BeartypeDecorHintPep3119Exception:
        return function  # it takes a Protocol that is not marked `runtime_checkable`
