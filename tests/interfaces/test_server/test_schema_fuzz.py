"""What the OpenAPI schema allows, and what it does not: no request may break the server."""

import json
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, openapi
from schemathesis.core.result import Ok
from schemathesis.generation.case import Case
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.python import asgi
from schemathesis.schemas import APIOperation, BaseSchema
from tiny_models import text_engine
from tiny_server import NAME, SETTINGS

from selfdraft.server.app import create_app

pytestmark = pytest.mark.slow

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NEEDED = {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/v1/models"}


@pytest.fixture(scope="module")
def schema() -> Iterator[BaseSchema]:
    """The schema of an application whose tiny model is loaded."""
    app: FastAPI = create_app(SETTINGS, load_engine=text_engine)
    schema = openapi.from_asgi("/openapi.json", app)
    with asgi.get_client(app) as client:
        for _ in range(600):
            if client.get("/ready").status_code == 200:
                break
            Event().wait(0.05)
        assert client.get("/ready").status_code == 200
    yield schema
    asgi.shutdown_lifespans()


def operations(schema: BaseSchema) -> list[APIOperation]:
    """What the schema describes; all of it must be readable."""
    found = list(schema.get_all_operations())
    assert all(isinstance(result, Ok) for result in found), found
    return [result.ok() for result in found]


def fuzz(operation: APIOperation, mode: GenerationMode, model: str | None = None) -> None:
    """Send some generated requests; a 5xx fails with the request that caused it."""

    @FEW
    @given(operation.as_strategy(generation_mode=mode, feedback=NO_FEEDBACK))
    def send(case: Case) -> None:
        if model is not None and isinstance(case.body, dict):
            case.body["model"] = model
        response = case.call()
        assert response.status_code < 500, (operation.label, case.body, response.text[:500])
        if response.status_code >= 400 and operation.method.upper() != "HEAD":
            error = json.loads(response.text)["error"]
            assert {"message", "type", "param", "code"} <= error.keys(), response.text[:500]

    send()


def test_the_schema_describes_what_is_served(schema: BaseSchema) -> None:
    """Guards against a fuzz that has nothing to fuzz: bodies that no schema speaks of."""
    by_path = {operation.path: operation for operation in operations(schema)}
    assert by_path.keys() >= NEEDED
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        assert by_path[path].body, f"{path} does not say what it takes"


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_nothing_that_is_generated_is_a_server_error(
    schema: BaseSchema, mode: GenerationMode
) -> None:
    """Guards against combinations of values that nobody thought of."""
    for operation in operations(schema):
        if mode is GenerationMode.POSITIVE or operation.body:
            fuzz(operation, mode)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_requests_for_the_right_model_are_no_server_error(
    schema: BaseSchema, mode: GenerationMode
) -> None:
    """Guards what lies behind the check of the model's name, where random names never come."""
    for operation in operations(schema):
        if operation.path in ("/v1/chat/completions", "/v1/completions"):
            fuzz(operation, mode, model=NAME)


def test_it_still_answers(schema: BaseSchema) -> None:
    """Guards against a worker that died of one of the requests above."""
    body: dict[str, Any] = {"model": NAME, "prompt": "hi", "max_tokens": 2, "temperature": 0}
    with asgi.get_client(schema.app) as client:
        response = client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        assert client.get("/health").status_code == 200
