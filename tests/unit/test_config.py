"""What can be set about a request."""

import math
import typing
from dataclasses import fields

import numpy as np
import pytest

from selfdraft.config import RequestConfig, RequestOptions
from selfdraft.errors import ConfigError


def test_stop_is_always_a_tuple() -> None:
    """Guards against a stop string that is read as a list of letters."""
    assert RequestConfig(stop="end").stop == ("end",)
    assert RequestConfig(stop=["a", "b"]).stop == ("a", "b")
    assert RequestConfig().stop == ()


def test_options_are_the_fields() -> None:
    """Guards against an option that one of the two spellings lacks."""
    annotations = {field.name: field.type for field in fields(RequestConfig)}
    assert typing.get_type_hints(RequestOptions) == annotations


def test_unknown_option() -> None:
    """Guards against a misspelt option that is ignored."""
    with pytest.raises(TypeError, match="max_tokens"):
        RequestConfig(max_tokens=3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 1),
        ("temperature", 0.0),
        ("top_p", 1.0),
        ("top_p", 1e-9),
        ("min_p", 1.0),
        ("seed", 2**64 - 1),
        ("repetition_penalty", 0.5),
    ],
)
def test_borders_are_allowed(option: str, value: float) -> None:
    """Guards against limits that exclude their own documented end."""
    assert getattr(RequestConfig(**{option: value}), option) == value


def test_numbers_of_any_kind() -> None:
    """Guards against a whole number, or one of numpy, refused far from here by transformers."""
    config = RequestConfig(
        max_new_tokens=np.int64(3), temperature=2, top_p=np.float32(0.5), seed=np.uint64(2**64 - 1)
    )
    assert (config.max_new_tokens, config.temperature, config.top_p) == (3, 2.0, 0.5)
    assert config.seed == 2**64 - 1
    assert [type(value) for value in (config.max_new_tokens, config.temperature)] == [int, float]
    assert RequestConfig(stop=None).stop == ()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("repetition_penalty", math.inf),
        ("top_p", "0.5"),
        ("min_p", None),
        ("temperature", True),
        ("max_new_tokens", 2.5),
    ],
)
def test_what_is_no_number(option: str, value: object) -> None:
    """Guards against a text that is decided by what no comparison holds for."""
    with pytest.raises(ConfigError, match=f"{option} is"):
        RequestConfig(**{option: value})
