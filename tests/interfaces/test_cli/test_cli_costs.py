"""`selfdraft inspect --costs`: the numbers' logic and its words, not the times."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from selfdraft import Engine, SkipSet
from selfdraft.cli.inspect.cost_report import CostReport, draft_cost
from selfdraft.cli.inspect.cost_words import cost_lines, verdict
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.search.store import DraftStore, StoredDraft

Run = Callable[..., Result]

CHECKS = {1: 0.1, 2: 0.1, 4: 0.1, 8: 0.12, 16: 0.16}
COPY = draft_cost("4-bit copy", DraftPlan(weight_bits=4), 0.038, CHECKS, 10**9)
REPORT = CostReport(
    context=256,
    num_threads=2,
    check_seconds=CHECKS,
    step_bytes=3 * 10**9,
    read_bandwidth=60e9,
    drafts=(COPY,),
    auto_plan="4-bit weights",
    auto_draft="4-bit copy",
    why_no_copy=None,
)


def text_of(report: CostReport) -> str:
    return " ".join(" ".join(cost_lines(report)).split())


def test_the_numbers_of_a_draft() -> None:
    """Guards against costs that are told of the wrong pass."""
    assert COPY.relative_cost == pytest.approx(0.38)
    assert COPY.break_even == pytest.approx(0.38, abs=0.001)
    assert COPY.ceilings[0.95] == pytest.approx(1 / (1 - 0.95 * 0.62))
    assert (COPY.remembered_acceptance, COPY.predicted_speedup) == (None, None)
    known = draft_cost("set", DraftPlan(), 0.05, CHECKS, 1, acceptance=0.9)
    assert known.remembered_ceiling == pytest.approx(1 / (1 - 0.9 * 0.5))
    assert known.predicted_speedup is not None
    assert 1 < known.predicted_speedup < known.remembered_ceiling


def test_the_share_of_the_bandwidth() -> None:
    """Guards the share of the ceiling that a plain step reaches."""
    assert REPORT.bytes_per_second == pytest.approx(30e9)
    assert REPORT.share_of_bandwidth == pytest.approx(0.5)
    assert "30.0 GB/s: 50% of the 60.0 GB/s" in text_of(REPORT)
    assert "can read is unknown" in text_of(replace(REPORT, read_bandwidth=None))


def test_the_words_say_what_auto_does_and_why() -> None:
    """Guards against a page of numbers that leaves its reader guessing."""
    text = text_of(REPORT)
    assert (
        "auto drafts with the 4-bit copy: a step costs 0.38 of a plain step, so it pays from 38% "
        "acceptance on." in text
    )
    assert "by itself at most 2.43x if 95% of its tokens are right" in text
    assert "0% of a plain step for the first, 4% for each of 15" in text
    none = replace(REPORT, drafts=(), auto_plan=None, auto_draft=None, why_no_copy="it is on mars")
    assert "auto begins without a draft of the model" in text_of(none)
    assert "no 4-bit copy of this model, because it is on mars." in text_of(none)


def test_verdicts() -> None:
    """Guards against a draft that is praised although what is known of it is too little."""
    dear = draft_cost("set", DraftPlan(), 0.2, CHECKS, 1)
    assert verdict(dear).endswith("it never pays here")
    for acceptance, end in ((0.9, "90% were seen, which is enough"), (0.2, "which is too few")):
        draft = draft_cost("set", DraftPlan(), 0.05, CHECKS, 1, acceptance=acceptance)
        assert verdict(draft).endswith(end)


def test_the_document(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards the JSON, and that the remembered set is timed with what is known of it."""
    store = DraftStore(engine.target.fingerprint.weights)
    store.remember(StoredDraft(skip_set=SkipSet((1,), (1, 3)), matchness=0.9))
    costs = json.loads(run("inspect", tiny, "--costs", "--json").stdout)["costs"]
    assert [*costs["check_seconds"]] == ["1", "2", "4", "8", "16"]
    assert all(seconds > 0 for seconds in costs["check_seconds"].values())
    assert costs["step_bytes"] == engine.target.step_bytes.total
    drafts = {draft["name"]: draft for draft in costs["drafts"]}
    assert drafts["remembered set"]["remembered_acceptance"] == 0.9
    assert drafts["remembered set"]["num_skipped"] == 3
    assert drafts["30% skipped evenly"]["step_bytes"] < costs["step_bytes"]
    assert (costs["why_no_copy"] is None) == ("4-bit copy" in drafts)


def test_the_page(run: Run, tiny: Path) -> None:
    """Guards against a table that is wider than a terminal, and words about what is not there."""
    page = run("inspect", tiny, "--costs", "--dtype", "bfloat16").stdout
    assert "plain step" in page
    assert "step, 4-bit copy" in page
    assert "auto drafts with the 4-bit copy" in page
    assert "remembered set" not in page
    assert max(len(line) for line in page.splitlines() if str(tiny) not in line) <= 80
    full = run("inspect", tiny, "--costs", "--dtype", "float32").stdout
    assert "no 4-bit copy of this model, because in float32" in " ".join(full.split())
