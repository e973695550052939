"""Fields of requests, and values that they cannot have."""

from typing import Any

from tiny_server import NAME

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    COMPLETIONS: {"model": NAME, "prompt": "hi", "max_tokens": 2},
}

NOT_A_NUMBER: tuple[object, ...] = ("1", [1], {"a": 1}, True, 10**400)
NOT_WHOLE: tuple[object, ...] = ("1", 1.5, [1], {}, True, -1, 10**400, -(10**30))
NOT_A_SWITCH: tuple[object, ...] = ("true", 2, [], {}, 0.5)
WRONG_ANYWHERE: dict[str, tuple[object, ...]] = {
    "model": (5, [], {}, True),
    "temperature": (*NOT_A_NUMBER, -0.1),
    "top_p": (*NOT_A_NUMBER, -0.1, 1.1),
    "min_p": (*NOT_A_NUMBER, -0.1, 1.1),
    "frequency_penalty": (*NOT_A_NUMBER, -2.1, 2.1),
    "presence_penalty": (*NOT_A_NUMBER, -2.1, 2.1),
    "repetition_penalty": (*NOT_A_NUMBER, 0, -1),
    "max_tokens": (*NOT_WHOLE, 0),
    "n": (*NOT_WHOLE, 0, 10**9),
    "seed": ("1", 1.5, [1], {}, True),
    "top_k": ("1", 1.5, [1], {}, True, -2),
    "stream": NOT_A_SWITCH,
    "stream_options": ("x", [], {"include_usage": "yes"}, {"include_usage": 5}, {"else": True}),
    "stop": (5, [5], {}, "", [""], [None], [["x"]], True),
    "logit_bias": ([], "x", {"a": 1}, {"1": "x"}, {"1": None}, {"999999999": 1}, {"-1": 1}),
    "draft": ("magic", 5, [], {}),
    "grammar": (5, [], {}, "start: ((("),
    "response_format": (
        "json",
        5,
        [],
        {},
        {"type": "poem"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}},
    ),
}
WRONG: dict[str, dict[str, tuple[object, ...]]] = {
    CHAT: {
        "messages": (
            None,
            "hi",
            5,
            [],
            {},
            ["hi"],
            [[]],
            [{}],
            [{"role": "user"}],
            [{"content": "hi"}],
            [{"role": 5, "content": "hi"}],
            [{"role": "user", "content": 5}],
            [{"role": "user", "content": {"a": "b"}}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            [{"role": "alien", "content": "hi"}],
        ),
        "logprobs": NOT_A_SWITCH,
        "top_logprobs": (*NOT_WHOLE, 10**6),
        "max_completion_tokens": (*NOT_WHOLE, 0),
    },
    COMPLETIONS: {
        "prompt": (None, 5, {}, [], "", [["x"]], [None], [-1], [10**30], [1.5], [True]),
        "logprobs": (*NOT_WHOLE, 10**6),
    },
}
FIELDS = [
    (path, field, value)
    for path in GOOD
    for field, values in (WRONG_ANYWHERE | WRONG[path]).items()
    for value in values
]
EXTENDED: list[tuple[str, object]] = [
    *(("/tokenize", body) for body in ({}, {"prompt": 5}, {"messages": "x"}, {"text": "x"}, [])),
    *(
        ("/detokenize", {"tokens": tokens})
        for tokens in (None, "x", 5, ["a"], [-1], [10**30], [1.5], [True], [[1]], {})
    ),
]
