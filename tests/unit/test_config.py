"""What can be set about a request."""

import typing
from dataclasses import fields

import pytest

from selfdraft.config import RequestConfig, RequestOptions


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
