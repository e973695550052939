"""The official `openai` client against a running server: it must notice no difference."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field
from running_server import (
    KEY,
    MODEL,
    RunningServer,
    client_of,
    finish_of,
    offline,
    offline_engine,
    running,
)

from selfdraft.text.prompt import encode_prompt

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs" / "serve.md"
MESSAGES = [{"role": "user", "content": "Name three rivers and say where they flow."}]
GREEDY = {"temperature": 0, "max_tokens": 20}
SAMPLED = {"temperature": 0.8, "top_p": 0.9, "seed": 11, "max_tokens": 20}
WARM = {"temperature": 1.3, "seed": 2**40 + 3, "max_tokens": 16}
DRAFTED = [
    *((SAMPLED, draft) for draft in ("auto", "swift", "suffix", "recycling", "off")),
    *((sampling, "auto") for sampling in (GREEDY, WARM)),
]
SAMPLINGS = pytest.mark.parametrize(
    "sampling", [GREEDY, SAMPLED, WARM], ids=["greedy", "sampled", "warm"]
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running("--api-key", KEY) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


@SAMPLINGS
def test_chat_writes_what_the_engine_writes(
    client: openai.OpenAI, sampling: dict[str, Any]
) -> None:
    """Guards the whole promise: a server that changes the text is worth nothing."""
    body = {"messages": MESSAGES, **sampling}
    answer = client.chat.completions.create(model=MODEL, **body)
    alone = offline(body)
    (choice,) = answer.choices
    assert choice.message.content == alone.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == finish_of(alone)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(alone.token_ids)
    assert answer.usage.prompt_tokens == alone.stats.num_prompt_tokens
    assert answer.usage.total_tokens == len(alone.token_ids) + alone.stats.num_prompt_tokens


@pytest.mark.parametrize(
    ("sampling", "draft"),
    DRAFTED,
    ids=["auto", "swift", "suffix", "recycling", "off", "greedy", "warm"],
)
def test_streamed_chat_is_the_same_with_every_draft(
    client: openai.OpenAI, sampling: dict[str, Any], draft: str
) -> None:
    """Guards against pieces that are lost, doubled or out of order, whatever drafts."""
    body = {"messages": MESSAGES, **sampling}
    with client.chat.completions.create(
        model=MODEL, stream=True, extra_body={"draft": draft}, **body
    ) as stream:
        chunks = list(stream)
    alone = offline(body)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == alone.text
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [c.choices[0].finish_reason for c in chunks]
    assert reasons[-1] == finish_of(alone)
    assert not any(reasons[:-1])
    assert len({c.id for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert all(c.usage is None for c in chunks)


@SAMPLINGS
@pytest.mark.parametrize("is_streamed", [False, True])
def test_completions_continue_the_text_as_it_stands(
    client: openai.OpenAI, sampling: dict[str, Any], is_streamed: bool
) -> None:
    """Guards against a chat template that is put around a plain prompt."""
    body = {"prompt": "The river Danube begins in", **sampling}
    answer = client.completions.create(model=MODEL, stream=is_streamed, **body)
    chunks = list(answer) if is_streamed else [answer]
    alone = offline(body)
    assert "".join(c.choices[0].text for c in chunks) == alone.text
    assert chunks[-1].choices[0].finish_reason == finish_of(alone)
    assert {c.object for c in chunks} == {"text_completion"}


def test_completions_default_to_sixteen_tokens(client: openai.OpenAI) -> None:
    """Guards a default that clients count on, and that differs from chat's."""
    answer = client.completions.create(model=MODEL, prompt="One, two, three, four,", temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_chat_logprobs_are_the_engines(client: openai.OpenAI, is_streamed: bool) -> None:
    """Guards against log-probabilities of other tokens, or after warping."""
    body = {"messages": MESSAGES, "temperature": 0.7, "seed": 5, "max_tokens": 12}
    answer = client.chat.completions.create(
        model=MODEL, logprobs=True, top_logprobs=3, stream=is_streamed, **body
    )
    choices = [c.choices[0] for c in (answer if is_streamed else [answer])]
    entries = [e for c in choices if c.logprobs is not None for e in c.logprobs.content or ()]
    alone = offline(body, logprobs=3)
    assert alone.finish_reason == "length"
    assert alone.logprobs is not None
    assert len(entries) == len(alone.logprobs)
    for entry, own in zip(entries, alone.logprobs, strict=True):
        assert entry.logprob == pytest.approx(own.logprob, abs=1e-4)
        tops = [top.logprob for top in entry.top_logprobs]
        assert tops == pytest.approx([logprob for _, logprob in own.top], abs=1e-4)
    written = b"".join(bytes(entry.bytes or ()) for entry in entries)
    assert written.decode() == alone.text


def test_completion_logprobs_are_the_engines(client: openai.OpenAI) -> None:
    """Guards the older shape: parallel lists, and offsets that find the tokens in the text."""
    body = {"prompt": "The river Danube begins in", "temperature": 0, "max_tokens": 10}
    answer = client.completions.create(model=MODEL, logprobs=2, **body)
    alone = offline(body, logprobs=2)
    found = answer.choices[0].logprobs
    assert found is not None
    assert alone.logprobs is not None
    assert found.token_logprobs == pytest.approx([e.logprob for e in alone.logprobs], abs=1e-4)
    assert "".join(found.tokens or ()) == alone.text
    assert [len(tops) for tops in found.top_logprobs or ()] == [2] * 10
    offsets = found.text_offset or []
    starts = [offset - offsets[0] for offset in offsets]
    assert all(
        alone.text[start:].startswith(token)
        for start, token in zip(starts, found.tokens or (), strict=True)
    )


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI, is_streamed: bool) -> None:
    """Guards against a stop string that is shown, or shown in part by a stream."""
    body = {"messages": MESSAGES, **GREEDY}
    whole = offline(body).text
    stop = whole[25:31]
    assert stop.strip()
    answer = client.chat.completions.create(
        model=MODEL, stop=[stop, "never written"], stream=is_streamed, **body
    )
    if is_streamed:
        choices = [c.choices[0] for c in answer]
        text = "".join(c.delta.content or "" for c in choices)
    else:
        choices = answer.choices
        text = choices[0].message.content
    assert text == whole[: whole.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_the_kth_choice_has_the_kth_seed(client: openai.OpenAI) -> None:
    """Guards n: choices must differ, be in order, and each be made again alone."""
    body = {"messages": MESSAGES, **SAMPLED}
    alone = [offline(body, choice) for choice in range(3)]
    answer = client.chat.completions.create(model=MODEL, n=3, **body)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert [c.message.content for c in answer.choices] == [a.text for a in alone]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sum(len(a.token_ids) for a in alone)
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(model=MODEL, n=3, stream=True, **body):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [a.text for a in alone]


def test_usage_comes_last_and_only_when_asked_for(client: openai.OpenAI) -> None:
    """Guards the bill: the tokens of a stream, in a chunk of its own without choices."""
    body = {"messages": MESSAGES, **GREEDY}
    *chunks, last = client.chat.completions.create(
        model=MODEL, stream=True, stream_options={"include_usage": True}, **body
    )
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens == len(
        encode_prompt(MESSAGES, offline_engine().tokenizer).token_ids
    )
    assert last.usage.completion_tokens == len(offline(body).token_ids)
    assert all(chunk.usage is None for chunk in chunks)
    metrics = (last.model_extra or {})["metrics"]
    assert metrics["tokens_per_second"] > 0
    speculation = metrics["speculative_decoding"]
    assert speculation["num_accepted_tokens"] <= speculation["num_draft_tokens"]
    assert speculation["mean_acceptance_length"] >= 1


class Weather(BaseModel):
    """What a structured answer must be."""

    model_config = ConfigDict(extra="forbid")
    city: Literal["Paris", "Oslo", "Lima"]
    degrees: int = Field(ge=-60, le=60)
    is_sunny: bool


ASKED = [{"role": "user", "content": "Invent the weather of a city. Answer in JSON."}]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_structured_answer_is_parsed(client: openai.OpenAI, sampling: dict[str, Any]) -> None:
    """Guards `parse`: the text obeys the schema, and is the same with and without drafts."""
    options = sampling | {"max_tokens": 120}
    answers = [
        client.chat.completions.parse(
            model=MODEL,
            messages=ASKED,
            response_format=Weather,
            extra_body={"draft": draft},
            **options,
        )
        for draft in ("off", "auto")
    ]
    contents = [answer.choices[0].message.content for answer in answers]
    assert len(set(contents)) == 1
    parsed = answers[0].choices[0].message.parsed
    assert isinstance(parsed, Weather)
    assert answers[0].choices[0].finish_reason == "stop"


def test_a_structured_answer_is_streamed(client: openai.OpenAI) -> None:
    """Guards the client's own accumulation of a structured stream."""
    with client.chat.completions.stream(
        model=MODEL, messages=ASKED, response_format=Weather, temperature=0, max_tokens=120
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert isinstance(final.choices[0].message.parsed, Weather)


def test_a_json_object_begins_and_ends_as_one(client: openai.OpenAI) -> None:
    """Guards json_object: what ends by itself is an object; what is cut off is the start of one."""
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        response_format={"type": "json_object"},
        n=2,
        seed=3,
        temperature=0.7,
        max_tokens=60,
    )
    ended = [c for c in answer.choices if c.finish_reason == "stop"]
    assert all(isinstance(json.loads(c.message.content or ""), dict) for c in ended)
    assert all((c.message.content or "").lstrip().startswith("{") for c in answer.choices)


def test_models_are_listed(client: openai.OpenAI) -> None:
    """Guards the first call of every front end."""
    (model,) = client.models.list().data
    assert model.id == MODEL
    assert model.object == "model"


def test_the_documented_example_runs(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards docs/serve.md against an example that went stale."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    program = "\n".join(blocks).replace("http://127.0.0.1:8000", server.url)
    exec(program.replace('api_key="none"', f"api_key={KEY!r}"), {})
    assert capsys.readouterr().out.strip()
