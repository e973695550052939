"""`python -m research search` and `python -m research stream`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_runs import Run

from research import stream_runner

STREAM = ("--per-category", 1, "--max-new-tokens", 40, "--dtype", "float32")
SEARCH = ("--windows", 1, "--held-out", 2, "--held-out-window", 32, "--dtype", "float32")


def test_strategies_side_by_side(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Guards the document: a row for each strategy, ratio and seed, in the file as on stdout."""
    out = tmp_path / "strategies.json"
    names = "random,hidden-states,default"
    options = ("--strategies", names, "--skip-ratio", 0.34, "--proposals", 4, "--seeds", 2)
    result = run("search", tiny, *SEARCH, *options, "--json", "--out", out)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert json.loads(out.read_text()) == document
    keys = [(row["strategy"], row["skip_ratio"], row["seed"]) for row in document["rows"]]
    assert keys == [(name, 0.34, seed) for name in names.split(",") for seed in range(2)]
    assert document["rows"][0]["best_matchness"].keys() == {"1", "4"}
    assert document["provenance"]["versions"]["torch"]
    shown = run("search", tiny, *SEARCH, *options)
    assert "hidden-states" in shown.stderr


@pytest.mark.slow
def test_known_answer(run: Run, tiny: Path) -> None:
    """Guards the table that says how much of what was planted was found."""
    options = ("--planted", "--seeds", 1, "--proposals", 3)
    result = run("search", tiny, *SEARCH, *options, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["num_planted"] == 10
    assert row["num_proposals"] <= 3
    assert "of 10" in run("search", tiny, *SEARCH, *options).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategies", "luck"), "give some of random"),
        (("--skip-ratio", 0), "give shares above 0"),
        (("--noise", 0.1), "add --planted"),
        (("--windows", 8), "none to hold out"),
    ],
)
def test_wrong_options_of_search(
    run: Run, tiny: Path, options: tuple[Any, ...], message: str
) -> None:
    """Guards against minutes of work that end in a traceback."""
    result = run("search", tiny, *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
def test_stream_shows_every_draft_in_every_segment(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Guards the document, and that no draft changes the text on the way through the stream."""
    out = tmp_path / "stream.json"
    drafts = ("--drafts", "frozen,swift,auto,auto-skip", "--skip-ratio", 0.34, "--stored")
    result = run(
        "stream", tiny, *STREAM, *drafts, "--categories", "story+code,sums",
        "--json", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    names = ["off", "frozen", "swift", "auto", "auto-skip", "auto-stored", "swift-stored"]
    keys = [(row["segment"], row["draft"]) for row in document["rows"]]
    assert keys == [(s, name) for s in ("story+code", "sums", None) for name in names]
    assert all(row["num_different"] == 0 for row in document["rows"])
    assert document["ending"] == "complete"
    assert document["stored"]["num_proposals"] > 0
    on_disk = json.loads(out.read_text())
    assert len(on_disk["passages"]) == 2 * len(names)
    assert on_disk["rows"] == document["rows"]
    skipping = {row["draft"]: row for row in document["rows"] if row["segment"] is None}
    assert skipping["auto-skip"]["acceptance"] is not None


def test_another_text_fails(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the exit code, without which nobody would see a broken contract."""
    original = stream_runner._passage

    def broken(*arguments: Any) -> stream_runner.Passage:
        passage = original(*arguments)
        changed = (*passage.token_ids[:-1], 5)
        return passage if passage.draft == "off" else replace(passage, token_ids=changed)

    monkeypatch.setattr(stream_runner, "_passage", broken)
    result = run("stream", tiny, *STREAM, "--drafts", "swift", "--categories", "story")
    assert result.exit_code == 1
    assert "NOT LOSSLESS: 1 outputs" in result.stderr


def test_an_interrupted_stream_keeps_what_was_measured(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards hours of work against Ctrl-C, a second call, and a prompt that only some have done."""
    out = tmp_path / "new" / "stream.json"
    original, calls = stream_runner._passage, iter(range(100))

    def interrupted(*arguments: Any) -> stream_runner.Passage:
        if next(calls) == 3:  # in the middle of the second prompt
            saved = json.loads(out.read_text())
            assert (saved["ending"], len(saved["passages"])) == (None, 2)
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(stream_runner, "_passage", interrupted)
    options = (*STREAM, "--drafts", "swift", "--categories", "story,sums", "--out", out)
    result = run("stream", tiny, *options)
    assert result.exit_code == 130
    assert "not complete (interrupted)" in result.stderr
    saved = json.loads(out.read_text())
    assert saved["ending"] == "interrupted"
    assert [(p["draft"], p["segment"]) for p in saved["passages"]] == [("off", 0), ("swift", 0)]
    assert [row["segment"] for row in saved["rows"]] == ["story"] * 2 + [None] * 2
    assert saved["rows"][-1]["num_prompts"] == 1
    again = run("stream", tiny, *options)
    assert again.exit_code == 2
    assert "cannot go on" in again.stderr
    assert json.loads(out.read_text()) == saved


def test_a_stream_ends_after_the_prompt_at_which_time_ran_out(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    """Guards against a draft that has more prompts than another, and a run that has none."""
    out = tmp_path / "stream.json"
    options = ("--drafts", "swift", "--categories", "story,sums", "--time-limit", 1e-6)
    result = run("stream", tiny, *STREAM, *options, "--json", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "not complete (time limit)" in result.stderr
    document = json.loads(result.stdout)
    assert [row["num_prompts"] for row in document["rows"]] == [1] * 4
    saved = json.loads(out.read_text())
    assert saved.pop("passages")
    assert saved == document


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--time-limit", 0), "give seconds above 0"),
        (("--drafts", "best"), "give some of frozen"),
        (("--drafts", "auto,auto"), "name each once"),
        (("--categories", "poems"), "there is no category"),
        (("--per-category", 0), "give 1 or more"),
    ],
)
def test_wrong_options_of_stream(
    run: Run, tiny: Path, options: tuple[Any, ...], message: str
) -> None:
    """Guards against minutes of work that end in a traceback."""
    result = run("stream", tiny, *options)
    assert result.exit_code == 2
    assert message in result.stderr
