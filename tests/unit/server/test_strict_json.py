"""What reading and checking a body costs: the event loop serves nobody else meanwhile."""

from typing import Any

import pytest
from pydantic import ValidationError

from selfdraft.server.errors import BodyError
from selfdraft.server.protocol import Body, ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from selfdraft.server.strict_json import MAX_MEMBERS, _half_character, _unique

MANY = 5000
MESSAGE = {"role": "user", "content": "hi"}


class CountedName(str):
    """A name that counts how often it is hashed and compared."""

    __slots__ = ()
    num_looks = 0

    def __hash__(self) -> int:
        CountedName.num_looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedName.num_looks += 1
        return super().__eq__(other)


def test_names_that_are_there_twice_are_found_in_linear_time() -> None:
    """Guards against a comparison of each name with all others: minutes for one body."""
    names = [CountedName(f"n{i}") for i in range(MAX_MEMBERS - 1)]
    CountedName.num_looks = 0
    with pytest.raises(ValueError, match="'n7' is there twice"):
        _unique([(name, 1) for name in (*names, CountedName("n7"))])
    assert CountedName.num_looks < 10 * MAX_MEMBERS


def test_an_object_with_too_many_names_is_refused() -> None:
    """Guards against an error for each of 100,000 names that no field has."""
    pairs = [(str(i), 1) for i in range(MAX_MEMBERS + 1)]
    assert len(_unique(pairs[:-1])) == MAX_MEMBERS
    with pytest.raises(BodyError, match="10,001 names"):
        _unique(pairs)


WRONG_LISTS: list[tuple[type[Body], str, object]] = [
    (CompletionBody, "prompt", {}),
    (CompletionBody, "prompt", [None]),
    (CompletionBody, "stop", 5),
    (ChatBody, "messages", {}),
    (ChatBody, "stop", 5),
    (ChatBody, "tools", {}),
    (ChatBody, "functions", {}),
    (ChatBody, "modalities", 5),
    (TokenizeBody, "messages", {}),
    (DetokenizeBody, "tokens", "x"),
]


@pytest.mark.parametrize(("kind", "field", "wrong"), WRONG_LISTS)
def test_a_list_is_refused_at_its_first_wrong_entry(
    kind: type[Body], field: str, wrong: object
) -> None:
    """Guards against an error for each of 300,000 entries, which kept everybody waiting for 7 s."""
    with pytest.raises(ValidationError) as raised:
        kind.model_validate({field: [wrong] * MANY})
    assert raised.value.error_count() < 30


def test_what_is_inside_a_message_is_refused_so_too() -> None:
    """Guards the lists within lists."""
    for message in (
        MESSAGE | {"content": [{}] * MANY},
        MESSAGE | {"tool_calls": [{}] * MANY},
        MESSAGE | {"annotations": [{}] * MANY},
    ):
        with pytest.raises(ValidationError) as raised:
            ChatBody.model_validate({"model": "m", "messages": [message]})
        assert raised.value.error_count() < 10


@pytest.mark.parametrize("wrong", [[float("nan")] * MANY, {"a": [{}] * MANY}, 5])
def test_metadata_holds_texts(wrong: object) -> None:
    """Guards against a place where anything may be, and is looked at piece by piece."""
    with pytest.raises(ValidationError) as raised:
        ChatBody.model_validate({"model": "m", "messages": [MESSAGE], "metadata": {"a": wrong}})
    assert raised.value.error_count() == 1


def test_half_a_character_is_found_wherever_it_is() -> None:
    """Guards the path that the client is told."""
    deep: Any = "\ud800"
    for _ in range(300):
        deep = [deep]
    assert _half_character({"a": ["fine", {"b": "\udfff"}]}) == ["a", 1, "b"]
    assert _half_character({"a": {"\ud800": 1}}) == ["a", "\ud800"]
    assert _half_character(deep) == [0] * 300
    assert _half_character({"a": ["fine", 1, None, "\N{SMILING FACE WITH OPEN MOUTH}"]}) is None
