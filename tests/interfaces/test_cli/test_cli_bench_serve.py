"""`selfdraft bench serve`: the server beside the engine."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_runs import Run

from selfdraft.bench import serve_overhead

SMALL = ("--limit", 2, "--max-new-tokens", 8, "--repeats", 2, "--dtype", "float32")


def test_both_ways_write_the_same_and_are_timed(run: Run, tiny: Path) -> None:
    """Guards the document: a pair for each prompt and repeat, and what they come to."""
    result = run("bench", "serve", tiny, *SMALL, "--temperature", 0.7, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    pairs = document["pairs"]
    assert [pair["repeat"] for pair in pairs] == [0, 0, 1, 1]
    assert len({pair["index"] for pair in pairs}) == 2
    assert all(pair["is_same"] and pair["num_new_tokens"] > 0 for pair in pairs)
    assert all(pair["engine_seconds"] > 0 and pair["server_seconds"] > 0 for pair in pairs)
    seconds = [sum(pair[name] for pair in pairs) for name in ("engine_seconds", "server_seconds")]
    assert document["total_ratio"] == pytest.approx(seconds[0] / seconds[1])
    assert document["num_different"] == 0
    assert document["provenance"]["versions"]["torch"]


def test_a_raw_prompt_goes_to_completions(run: Run, without_template: Path) -> None:
    """Guards models without a chat template, and the table."""
    result = run("bench", "serve", without_template, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "4/4" in result.stderr


def test_another_text_fails(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the exit code: the speed of a server that changes the text is worth nothing."""
    original = serve_overhead._ask_server

    def broken(*arguments: Any) -> serve_overhead._Answer:
        return replace(original(*arguments), text="something else")

    monkeypatch.setattr(serve_overhead, "_ask_server", broken)
    result = run("bench", "serve", tiny, *SMALL)
    assert result.exit_code == 1
    assert "NOT THE SAME: 4 texts" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--repeats", 0), "give 1 or more"),
        (("--tasks", "poems"), "there is no task"),
        (("--max-new-tokens", 0), "give 1 or more"),
    ],
)
def test_wrong_options(run: Run, tiny: Path, options: tuple[Any, ...], message: str) -> None:
    """Guards against a traceback."""
    result = run("bench", "serve", tiny, *options)
    assert result.exit_code == 2
    assert message in result.stderr
