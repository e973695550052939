"""Remembered drafts: nothing is lost, nothing wrong is believed, and nothing crashes."""

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfdraft import SkipSet
from selfdraft.errors import SkipSetError
from selfdraft.model.structure.stubs import Returns
from selfdraft.model.structure.sublayers import DecoderLayer, DecoderLayers
from selfdraft.search.store import (
    DraftStore,
    StoredDraft,
    export_collection,
    import_collection,
)

WEIGHTS = "ab" * 32


def draft(layer: int, *, matchness: float = 0.9, **fields: Any) -> StoredDraft:
    return StoredDraft(skip_set=SkipSet((layer,), (layer,)), matchness=matchness, **fields)


FULL = draft(
    2,
    weight_bits=4,
    predicted_speedup=1.42,
    num_proposals=57,
    domain="maths",
    signature=(0.25, "3f", 7),
)


def test_what_is_stored_comes_back() -> None:
    """Guards against a field that the file forgets."""
    DraftStore(WEIGHTS).remember(FULL)
    (found,) = DraftStore(WEIGHTS).drafts()
    assert found == FULL
    assert found.date
    assert found.selfdraft_version


def test_weights_do_not_share_drafts() -> None:
    """Guards against the drafts of another model."""
    DraftStore(WEIGHTS).remember(FULL)
    assert DraftStore("cd" * 32).drafts() == ()


def test_the_best_few_of_each_domain_are_kept() -> None:
    """Guards against a file that grows for ever, and a domain that crowds out the others."""
    store = DraftStore(WEIGHTS)
    store.remember(*(draft(n, matchness=0.9 + n / 1000, domain="code") for n in range(20)))
    store.remember(draft(1, matchness=0.2, domain="chat"))
    found = DraftStore(WEIGHTS).drafts()
    assert [d.skip_set.mlp for d in found if d.domain == "code"] == [(19,), (18,), (17,), (16,)]
    assert [d.domain for d in found].count("chat") == 1
    for number in range(10):
        store.remember(*(draft(n, domain=f"domain {number}") for n in range(4)))
    assert len(DraftStore(WEIGHTS).drafts()) == 16


def test_a_draft_that_is_scored_again_is_one_record() -> None:
    """Guards against four records of one draft that leave no room for another."""
    store = DraftStore(WEIGHTS)
    store.remember(draft(1, matchness=0.95))
    store.remember(draft(1, matchness=0.7))
    assert [d.matchness for d in DraftStore(WEIGHTS).drafts()] == [0.7]


def test_a_second_store_adds_to_the_first() -> None:
    """Guards against a writer that overwrites what came after it had read."""
    first, second = DraftStore(WEIGHTS), DraftStore(WEIGHTS)
    assert first.drafts() == second.drafts() == ()
    first.remember(draft(1))
    second.remember(draft(2))
    first.remember(draft(3))
    assert {d.skip_set.mlp[0] for d in second.drafts()} == {1, 2, 3}


def _remember(job: tuple[str, int]) -> None:
    home, number = job
    os.environ["SELFDRAFT_HOME"] = home
    DraftStore(WEIGHTS).remember(draft(number, domain=str(number)))


@pytest.mark.slow
def test_processes_do_not_lose_each_others_drafts(own_home: Path) -> None:
    """Guards read, merge and write as one step."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_remember, [(str(own_home), number) for number in range(16)], chunksize=1)
    assert {d.domain for d in DraftStore(WEIGHTS).drafts()} == {str(n) for n in range(16)}


def damaged_by(**changes: object) -> Callable[[str], str]:
    def change(text: str) -> str:
        document = json.loads(text)
        document["drafts"][0] |= changes
        return json.dumps(document)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"format": 2}),
        lambda text: json.dumps(json.loads(text) | {"weights": "of another"}),
        lambda text: json.dumps(json.loads(text) | {"drafts": {}}),
        lambda text: json.dumps(json.loads(text) | {"drafts": [None]}),
        damaged_by(skip_set=[1, 2]),
        damaged_by(skip_set={"attention": ["1"], "mlp": []}),
        damaged_by(matchness="high"),
        damaged_by(matchness=1.5),
        damaged_by(matchness=float("nan")),
        damaged_by(weight_bits=3),
        damaged_by(predicted_speedup="fast"),
        damaged_by(num_proposals=None),
        damaged_by(signature="abc"),
        damaged_by(signature=[[1]]),
        damaged_by(domain=3),
        damaged_by(date=5),
    ],
)
def test_a_damaged_file_is_set_aside(
    damage: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a crash at load, and against a file that its owner never sees again."""
    store = DraftStore(WEIGHTS)
    store.remember(FULL)
    text = damage(store.file.read_text())
    store.file.write_text(text)
    other = DraftStore(WEIGHTS)
    assert other.drafts() == ()
    assert "is not used" in capsys.readouterr().err
    (aside,) = store.file.parent.glob("*.damaged-*")
    assert aside.read_text() == text
    other.remember(draft(1))
    assert len(DraftStore(WEIGHTS).drafts()) == 1
    assert capsys.readouterr().err == ""


def test_a_home_that_cannot_be_written_is_said_once(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards a read-only cache: the search goes on, and does not repeat itself."""
    (own_home / "drafts").write_text("in the way")
    store = DraftStore(WEIGHTS)
    store.remember(draft(1))
    store.remember(draft(2, matchness=0.95))
    assert [d.skip_set.mlp for d in store.drafts()] == [(2,), (1,)]
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_a_draft_that_does_not_fit_is_dropped_with_the_reason() -> None:
    """Guards against a set that was copied from a larger model."""
    inner = DecoderLayer(Returns(), is_skippable_whole=True)
    outer = DecoderLayer(Returns(), reason="the first layer always runs")
    store = DraftStore(WEIGHTS)
    store.remember(draft(1, matchness=0.8), draft(0, matchness=0.9), draft(9, matchness=0.7))
    fitting, reasons = store.fitting(DecoderLayers("layers", (outer, inner)))
    assert [d.skip_set.mlp for d in fitting] == [(1,)]
    assert "the first layer always runs" in reasons[0]
    assert "the layers 0 to 1" in reasons[2]


def test_the_file_can_be_read_by_people() -> None:
    """Guards against a line a kilometre long, and against one line for each layer."""
    store = DraftStore(WEIGHTS)
    store.remember(FULL, StoredDraft(skip_set=SkipSet(range(40), range(40)), matchness=0.5))
    lines = store.file.read_text().splitlines()
    assert len(lines) < 40
    assert '"attention": [0, 1, 2,' in store.file.read_text()


def test_collections_of_the_reference_go_both_ways() -> None:
    """Guards the exchange with the reference implementation's `skip_layers.json`."""
    sets = {"llama-7b": SkipSet((1, 3), (2,)), "other": SkipSet((), (5,))}
    assert import_collection(export_collection(sets)) == sets
    assert SkipSet.from_json(export_collection(sets), "other") == sets["other"]
    for text in ("", "[]", "{}", '{"a": {"mlp": []}}'):
        with pytest.raises(SkipSetError):
            import_collection(text)
