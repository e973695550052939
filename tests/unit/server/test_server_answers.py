"""What the server writes is what the engine writes, in OpenAI's shapes."""

from typing import Any

import pytest
from server_runs import MODEL, RunningServer, chat_body, events, serving
from tiny_models import text_engine

MESSAGES = [{"role": "user", "content": "the thé"}]


@pytest.fixture(scope="module")
def server() -> Any:
    with serving() as running:
        yield running


def offline(prompt: Any = MESSAGES, **options: Any) -> Any:
    return text_engine().generate(prompt, **{"max_new_tokens": 8, **options})


@pytest.mark.parametrize("draft", [None, "off", "suffix", "recycling", "auto"])
@pytest.mark.parametrize("seed", [0, 7])
def test_chat_is_what_the_engine_writes(
    server: RunningServer, draft: str | None, seed: int
) -> None:
    """Guards against a server whose text is not the model's for the seed, whatever drafts."""
    answer = server.ask(seed=seed, temperature=0.8, max_tokens=20, draft=draft).json()
    expected = offline(seed=seed, temperature=0.8, max_new_tokens=20)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": expected.text,
        "refusal": None,
    }
    assert answer["usage"] == {
        "prompt_tokens": expected.stats.num_prompt_tokens,
        "completion_tokens": expected.stats.num_new_tokens,
        "total_tokens": expected.stats.num_prompt_tokens + expected.stats.num_new_tokens,
    }
    assert answer["object"] == "chat.completion"
    assert answer["model"] == MODEL
    assert answer["id"].startswith("chatcmpl-")


def test_a_stream_adds_up_to_the_answer(server: RunningServer) -> None:
    """Guards against pieces that are lost, doubled, or out of order."""
    options = {"include_usage": True, "include_sources": True}
    response = server.ask(stream=True, stream_options=options, max_tokens=20)
    assert response.headers["content-type"].startswith("text/event-stream")
    first, *chunks, last, usage = events(response)
    expected = offline(max_new_tokens=20)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == expected.text
    sources = [source for chunk in chunks for source in chunk["sources"]]
    assert [source["token_id"] for source in sources] == list(expected.token_ids)
    assert {source["source"] for source in sources} <= {"target", "text", "recycled", "model"}
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "length",
    }
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 20
    assert all(chunk["usage"] is None for chunk in (first, *chunks, last))
    assert len({chunk["id"] for chunk in (first, *chunks, last, usage)}) == 1


def test_metrics_of_a_request(server: RunningServer) -> None:
    """Guards against statistics that lack what vLLM's users look for, or contradict each other."""
    metrics = server.ask(max_tokens=30).json()["metrics"]
    speculation = metrics.pop("speculative_decoding")
    assert set(metrics) == {
        "time_to_first_token_seconds",
        "queue_seconds",
        "prefill_seconds",
        "decode_seconds",
        "tokens_per_second",
    }
    assert metrics["tokens_per_second"] == pytest.approx(30 / metrics["decode_seconds"])
    assert metrics["time_to_first_token_seconds"] >= metrics["queue_seconds"] >= 0
    drafted, accepted = speculation["num_draft_tokens"], speculation["num_accepted_tokens"]
    assert speculation["draft_acceptance_rate"] == (accepted / drafted if drafted else 0)
    assert set(speculation) == {
        "num_drafts",
        "num_draft_tokens",
        "num_accepted_tokens",
        "draft_acceptance_rate",
        "mean_acceptance_length",
        "acceptance_per_position",
    }


def test_choices_have_seeds_of_their_own(server: RunningServer) -> None:
    """Guards against `n` choices that are one, or that no seed gives again."""
    answer = server.ask(n=3, seed=2**64 - 2, temperature=1.5, max_tokens=12).json()
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    seeds = (2**64 - 2, 2**64 - 1, 0)
    assert texts == [offline(seed=s, temperature=1.5, max_new_tokens=12).text for s in seeds]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    prompt = offline().stats.num_prompt_tokens
    assert answer["usage"]["completion_tokens"] == 36
    assert answer["usage"]["prompt_tokens"] == prompt
    streamed = events(server.ask(n=3, seed=-2, temperature=1.5, max_tokens=12, stream=True))
    for index, text in enumerate(texts):
        parts = [c["choices"][0] for c in streamed if c["choices"][0]["index"] == index]
        assert "".join(part["delta"].get("content", "") for part in parts) == text


def test_without_a_seed_answers_differ(server: RunningServer) -> None:
    """Guards against a default seed that makes every client's answer the same."""
    answers = {
        server.ask(temperature=2.0, max_tokens=16).json()["choices"][0]["message"]["content"]
        for _ in range(3)
    }
    assert len(answers) > 1


def test_stop_strings(server: RunningServer) -> None:
    """Guards against a stop string that is shown, or a reason that does not tell of it."""
    text = offline(max_new_tokens=30).text
    stop = text[3:5]
    for given in (stop, [stop, "never"]):
        choice = server.ask(stop=given, max_tokens=30).json()["choices"][0]
        assert choice["message"]["content"] == text[: text.index(stop)]
        assert choice["finish_reason"] == "stop"
    choices = [c["choices"][0] for c in events(server.ask(stop=stop, max_tokens=30, stream=True))]
    shown = "".join(choice["delta"].get("content", "") for choice in choices)
    assert shown == text[: text.index(stop)]
    assert choices[-1]["finish_reason"] == "stop"


def test_logprobs_of_chat(server: RunningServer) -> None:
    """Guards against log-probabilities that are shifted, or of too many alternatives."""
    # In float32 the rows of a draft's tree change a logit's last bits, so nothing drafts here.
    expected = offline(logprobs=2, draft="off")
    asked = {"logprobs": True, "top_logprobs": 2, "draft": "off"}
    content = server.ask(**asked).json()["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == [lp.logprob for lp in expected.logprobs]
    for entry, logprob in zip(content, expected.logprobs, strict=True):
        assert [top["logprob"] for top in entry["top_logprobs"]] == [p for _, p in logprob.top]
        assert entry["token"] == entry["top_logprobs"][0]["token"]
    tokens = bytes(byte for entry in content for byte in entry["bytes"])
    assert tokens.decode(errors="replace") == expected.text
    streamed = events(server.ask(**asked, stream=True))
    parts = [chunk["choices"][0]["logprobs"] for chunk in streamed]
    assert [entry for part in parts if part for entry in part["content"]] == content
    only_chosen = server.ask(logprobs=True, draft="off").json()["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in only_chosen] == [lp.logprob for lp in expected.logprobs]
    assert all(entry["top_logprobs"] == [] for entry in only_chosen)
    assert server.ask().json()["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("num_top", [0, 3])
def test_logprobs_of_completions(server: RunningServer, num_top: int) -> None:
    """Guards against lists of different lengths, and a stream's offsets that begin anew."""
    expected = offline("the", logprobs=max(1, num_top), max_new_tokens=12, draft="off")
    asked = {"logprobs": num_top, "max_tokens": 12, "draft": "off"}
    logprobs = server.complete(**asked).json()["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"] == [lp.logprob for lp in expected.logprobs]
    assert {len(value) for value in logprobs.values()} == {12}
    assert all(1 <= len(top) <= num_top + 1 for top in logprobs["top_logprobs"])
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    assert logprobs["text_offset"][0] == 0
    streamed = events(server.complete(**asked, stream=True))
    parts = [chunk["choices"][0]["logprobs"] for chunk in streamed]
    for name, value in logprobs.items():
        assert [item for part in parts if part for item in part[name]] == value


def test_every_form_of_a_completions_prompt(server: RunningServer) -> None:
    """Guards against a list of prompts that is taken for one, or of tokens for texts."""
    engine = text_engine()
    ids = [engine.tokenizer(text).input_ids for text in ("the", "on the END")]
    expected = [offline(prompt, max_new_tokens=16) for prompt in ids]
    for prompt in ("the", ids[0]):
        answer = server.complete(prompt=prompt).json()  # 16 tokens unless asked for
        assert [choice["text"] for choice in answer["choices"]] == [expected[0].text]
        assert answer["object"] == "text_completion"
    for prompts in (["the", "on the END"], ids):
        answer = server.complete(prompt=prompts, n=2).json()
        texts = [choice["text"] for choice in answer["choices"]]
        assert texts == [result.text for result in expected for _ in range(2)]
        assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
        assert answer["usage"]["completion_tokens"] == 64
    chunks = events(server.complete(prompt=["the", "on the END"], stream=True))
    for index, result in enumerate(expected):
        parts = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(part["text"] for part in parts) == result.text
        assert parts[-1]["finish_reason"] == "length"


def test_forms_of_a_message(server: RunningServer) -> None:
    """Guards against parts that are dropped, and messages that come back from a client refused."""
    expected = server.ask().json()["choices"][0]["message"]
    parts = [{"type": "text", "text": "the thé"}]
    assert server.ask(messages=[{"role": "user", "content": parts}]).json()["choices"][0][
        "message"
    ] == (expected)
    two = [{"role": "user", "content": [*parts, *parts]}]
    assert (
        server.ask(messages=two).json()["usage"]["prompt_tokens"]
        == offline([{"role": "user", "content": "the thé\nthe thé"}]).stats.num_prompt_tokens
    )
    history = [*MESSAGES, {**expected, "tool_calls": None, "audio": None}, *MESSAGES]
    assert server.ask(messages=history).status_code == 200
    for role in ("system", "developer"):
        answer = server.ask(messages=[{"role": role, "content": "a"}, *MESSAGES]).json()
        system = [{"role": "system", "content": "a"}, *MESSAGES]
        assert answer["choices"][0]["message"]["content"] == offline(system).text


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "me"},
        {"metadata": {"a": "b"}},
        {"store": False},
        {"service_tier": "auto"},
        {"parallel_tool_calls": True},
        {"tools": [], "tool_choice": "none"},
        {"n": 1},
        {"logprobs": None, "top_logprobs": None, "stop": None, "seed": None, "tools": None},
        {"logit_bias": {}},
        {"response_format": {"type": "text"}},
        {"max_tokens": 8, "max_completion_tokens": 8},
        {"top_k": -1, "min_p": 0, "repetition_penalty": 1, "frequency_penalty": 0},
    ],
    ids=str,
)
def test_what_asks_for_nothing_changes_nothing(
    server: RunningServer, harmless: dict[str, Any]
) -> None:
    """Guards against clients that are refused for what they send as a matter of course."""
    answer = server.ask(**harmless)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == offline().text


def test_a_completions_harmless_fields(server: RunningServer) -> None:
    """Guards against the same for completions."""
    harmless = {"best_of": 1, "echo": False, "suffix": None, "logprobs": None, "user": "me"}
    assert server.complete(**harmless).status_code == 200


def test_tokens_there_and_back(server: RunningServer) -> None:
    """Guards against tokens that are not those which the model reads."""
    post = server.client.post
    tokens = post("/tokenize", json={"prompt": "the thé"}).json()
    assert tokens["tokens"] == text_engine().tokenizer("the thé").input_ids
    assert tokens["count"] == len(tokens["tokens"])
    assert tokens["max_model_len"] == 1024
    text = post("/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert text == {"prompt": "the thé"}
    chat = post("/tokenize", json={"messages": MESSAGES}).json()
    assert chat["count"] == offline().stats.num_prompt_tokens
    for body in ({}, {"prompt": "a", "messages": MESSAGES}):
        assert post("/tokenize", json=body).status_code == 400
    for wrong in (-1, 10**30):
        assert post("/detokenize", json={"tokens": [wrong]}).status_code == 400


def test_what_the_server_says_of_itself(server: RunningServer) -> None:
    """Guards against status routes that break while nobody looks."""
    get = server.client.get
    assert get("/health").status_code == get("/ready").status_code == 200
    assert get("/v1/models").json()["data"][0]["id"] == MODEL
    assert get(f"/v1/models/{MODEL}").json()["max_model_len"] == 1024
    assert get("/version").json()["version"]
    draft = get("/v1/draft").json()
    assert draft["draft"] == "recycling"
    assert draft["plan"] is None
    assert draft["num_layers"] == 5
    assert draft["fixed"] == {"attention": [0, 4], "mlp": [0, 4]}
    assert draft["search"]["state"] == "off"
    assert (draft["num_running"], draft["num_waiting"]) == (0, 0)
    assert "/v1/chat/completions" in get("/openapi.json").json()["paths"]


def test_metrics_count_what_was_written(server: RunningServer) -> None:
    """Guards against counters that stand still, and names that dashboards do not find."""

    def read() -> dict[str, float]:
        lines = server.client.get("/metrics").text.splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    before = read()
    server.ask(max_tokens=20)
    after = read()
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown["selfdraft:generation_tokens_total"] == 20
    assert grown['selfdraft:request_success_total{finished_reason="length"}'] == 1
    assert grown["selfdraft:prompt_tokens_total"] == offline().stats.num_prompt_tokens
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time"):
        assert grown[f"selfdraft:{name}_seconds_count"] == 1
    assert grown["selfdraft:spec_decode_num_draft_tokens_total"] > 0
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "inter_token_latency_seconds_count",
        "spec_decode_num_drafts_total",
        "spec_decode_num_accepted_tokens_total",
        'spec_decode_num_accepted_tokens_per_pos_total{position="0"}',
        "search_is_searching",
        "search_proposals_total",
        "plan_skipped_sublayers",
        "plan_weight_bits",
    ):
        assert f"selfdraft:{name}" in after


def test_the_search_is_shown() -> None:
    """Guards against a plan on the page that is not the one in use."""
    with serving(draft="swift") as server:
        server.ask(max_tokens=40)
        report = server.client.get("/v1/draft").json()
        engine = server.backend.preparer.engine
        plan = engine.drafts.plan("swift")
        assert report["plan"]["attention"] == list(plan.skip_set.attention)
        assert report["plan"]["mlp"] == list(plan.skip_set.mlp)
        assert report["search"]["state"] in ("searching", "resting")
        assert report["search"]["num_starts"] == 1


def test_chat_without_limits_ends_somewhere() -> None:
    """Guards against a client that says nothing and gets the whole context, or 16 tokens."""
    with serving(max_model_len=64) as server:
        body = chat_body()
        del body["max_tokens"]
        answer = server.client.post("/v1/chat/completions", json=body).json()
        assert answer["usage"]["total_tokens"] == 64
        assert answer["choices"][0]["finish_reason"] == "length"
