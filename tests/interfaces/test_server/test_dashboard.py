"""The Grafana dashboard in docs/ shows what the server measures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny_models import text_engine
from tiny_server import SETTINGS

from selfdraft.server.app import create_app

DOCS = Path(__file__).parents[3] / "docs"
PARTS_OF_A_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    document = json.loads((DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def names_in(text: str) -> set[str]:
    """The metrics that a text speaks of."""
    found = re.findall(r"selfdraft:[a-z0-9_]+", text)
    return {PARTS_OF_A_HISTOGRAM.sub("", name) for name in found}


def served_names() -> set[str]:
    """The metrics of a server that has answered nothing yet."""
    client = TestClient(create_app(SETTINGS, load_engine=text_engine))
    response = client.get("/metrics")
    assert response.status_code == 200
    found = re.findall(r"^# TYPE (selfdraft:\w+) (\w+)$", response.text, re.MULTILINE)
    return {name for name, _ in found}


def test_every_metric_of_the_dashboard_is_served(dashboard: dict[str, Any]) -> None:
    """Guards against a panel that stays empty because a metric was renamed."""
    shown = names_in(json.dumps(dashboard))
    assert len(shown) >= 15
    assert shown <= served_names()


def test_every_metric_of_the_documentation_is_served() -> None:
    """Guards docs/serve.md against the same, and against metrics that it does not mention."""
    told = names_in((DOCS / "serve.md").read_text(encoding="utf-8"))
    served = {name for name in served_names() if not name.endswith("_created")}
    assert told == served


def test_the_dashboard_can_be_imported(dashboard: dict[str, Any]) -> None:
    """Guards what Grafana asks of a file: a version, panels with ids of their own, a source."""
    assert dashboard["schemaVersion"] >= 39
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(
            target["expr"].count("(") == target["expr"].count(")") for target in panel["targets"]
        )
