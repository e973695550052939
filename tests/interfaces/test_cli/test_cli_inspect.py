"""`selfdraft inspect` and `selfdraft pull`."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from selfdraft import Engine, SkipSet
from selfdraft.search.store import DraftStore, StoredDraft

Run = Callable[..., Result]


def test_the_figures_are_those_of_the_model(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards sums that forget a norm or a bias, and the KV estimate."""
    report = json.loads(run("inspect", tiny, "--json").stdout)
    parameters = list(engine.target.model.parameters())
    assert report["num_parameters"] == sum(p.numel() for p in parameters)
    assert sum(report["weight_bytes"].values()) == sum(p.nbytes for p in parameters)
    config = engine.target.model.config
    bytes_per_number = parameters[0].element_size()
    rows = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    assert report["kv_bytes_per_token"] == rows * bytes_per_number
    assert report["max_context"] == config.max_position_embeddings
    assert report["vocab_size"] == config.vocab_size
    assert report["architecture"] == "LlamaForCausalLM"


def test_a_tied_weight_is_counted_once(run: Run, tiny: Path, tied: Path) -> None:
    """Guards the share of the embeddings, which is a fifth of a small model."""
    own, shared = (json.loads(run("inspect", f, "--json").stdout) for f in (tiny, tied))
    embeddings = [r["weight_bytes"]["embeddings_and_head"] for r in (own, shared)]
    assert embeddings[0] == 2 * embeddings[1]
    assert [r["has_tied_embeddings"] for r in (own, shared)] == [False, True]
    assert sum(shared["weight_bytes"].values()) < sum(own["weight_bytes"].values())


def test_the_layers_are_named_with_reasons(run: Run, tiny: Path) -> None:
    """Guards the answer to: what may I skip, and what is skipped unless I say otherwise?"""
    report = json.loads(run("inspect", tiny, "--json").stdout)
    assert report["eligible_layers"] == [1, 2, 3]
    assert report["reasons"].keys() == {"0", "4"}
    assert report["remembered"] == []


def test_the_page_shows_a_map_of_the_layers(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards the map: a wrong mark would send somebody after the wrong layer."""
    store = DraftStore(engine.target.fingerprint.weights)
    empty = run("inspect", tiny).stdout
    assert "no skip set is remembered" in empty
    assert "attention      -ooo-" in empty
    store.remember(
        StoredDraft(skip_set=SkipSet((1,), (1, 3)), matchness=0.9, predicted_speedup=1.2)
    )
    page = run("inspect", tiny).stdout
    marks = {
        line.split()[0]: line.split()[1] for line in page.splitlines() if len(line.split()) > 1
    }
    assert (marks["attention"], marks["MLP"]) == ("-#oo-", "-#o#-")
    assert "layer 0" in page
    assert "the last layer always runs" in page
    assert "skips 3 sublayers, matchness 0.90, 1.20x predicted" in page
    assert max(len(line) for line in page.splitlines() if str(tiny) not in line) <= 80


def test_a_refused_model_says_why(run: Run, unsupported: Path) -> None:
    """Guards the reason: it is all that the owner of such a model gets."""
    result = run("inspect", unsupported)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "MambaForCausalLM" in result.stderr


def test_pull_prints_the_folder(run: Run, tiny: Path) -> None:
    """Guards `cd $(selfdraft pull MODEL)`."""
    assert run("pull", tiny).stdout == f"{tiny}\n"
    document = json.loads(run("pull", tiny, "--json").stdout)
    assert document["folder"] == str(tiny)
    assert document["num_bytes"] > (tiny / "model.safetensors").stat().st_size
