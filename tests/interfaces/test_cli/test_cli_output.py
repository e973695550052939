"""The parts that draw: statistics, comparisons, JSON."""

import json
import warnings

import pytest
import torch

from selfdraft.bench.run.contract import Comparison, Contract, _compare, _Output
from selfdraft.cli import check
from selfdraft.cli.generate import _in_turn
from selfdraft.cli.quiet import quiet_libraries
from selfdraft.cli.stats_table import SpeedComparison
from selfdraft.cli.terminal import write_json
from selfdraft.decoding.stats import Stats
from selfdraft.errors import SelfdraftWarning
from selfdraft.generation import Result
from selfdraft.text.text_stream import Piece


def result(*token_ids: int, seconds: float = 1.0) -> Result:
    stats = Stats(num_new_tokens=len(token_ids), num_rounds=1, decode_seconds=seconds)
    return Result("", token_ids, "length", stats, None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2.0, "slower than plain decoding on this model: 0.50x; small models gain little"),
        (1.01, "as fast as plain decoding"),
        (0.5, "2.00 times as fast as plain decoding"),
    ],
)
def test_a_comparison_says_plainly_what_it_found(seconds: float, words: str) -> None:
    """Guards against a demo that praises a draft that costs more than it saves."""
    comparison = SpeedComparison(result(1, 2, seconds=seconds), result(1, 2))
    assert comparison.speedup == pytest.approx(1 / seconds)
    assert words in " ".join(comparison.verdict())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ((1, 2, 3), "yes, all 3 tokens"),
        ((1, 9, 3), "no, they part after 1 tokens"),
        ((1, 2), "no, one is shorter"),
        ((), "no, one is shorter"),
    ],
)
def test_a_comparison_says_where_outputs_part(other: tuple[int, ...], words: str) -> None:
    """Guards against the claim of equal output, made without looking."""
    identity, _ = SpeedComparison(result(1, 2, 3), result(*other)).verdict()
    assert words in identity


@pytest.mark.parametrize(("num_drafted", "num_vanilla"), [(3, 8), (8, 3), (4, 4), (1, 0)])
def test_a_comparison_runs_both_to_the_end(num_drafted: int, num_vanilla: int) -> None:
    """Guards the figures of an output that is longer than the other, or held back its tokens."""
    drafted = iter([Piece("d", (1, 2), ("model", "model"))] * num_drafted)
    vanilla = iter([Piece("v", (1,), ("target",))] * num_vanilla)
    shown = "".join(piece.text for piece in _in_turn(drafted, vanilla))
    assert shown == "d" * num_drafted
    assert next(vanilla, None) is None


def test_json_has_no_infinities(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards strict readers: the log-probability of a forbidden token is -inf, which JSON lacks."""
    write_json({"top": [(1, float("-inf")), (2, -0.5)], "text": "\u00e9"})
    line = capsys.readouterr().out
    assert json.loads(line, parse_constant=pytest.fail) == {
        "top": [[1, None], [2, -0.5]],
        "text": "\u00e9",
    }
    assert line.isascii()


@pytest.mark.parametrize(
    ("other_logit", "words"), [(15.75, "0.2500 (a near-tie"), (12.0, "4.0000 (no near-tie")]
)
def test_a_divergence_says_what_rounding_explains(
    other_logit: float, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a wrong token that passes for a near-tie, and a bound that nobody sees."""
    logits = torch.tensor([[16.0, other_logit, -1.0]], dtype=torch.bfloat16)
    comparison = Comparison("other way", num_same_bits=None)
    _compare(comparison, 3, _Output([0], logits), _Output([1], None))
    contract = Contract("L4", False)
    check._report(contract, [comparison], is_kept=contract.is_kept_by(comparison))
    text = " ".join(capsys.readouterr().err.split())
    assert f"prompt 3 parts after 0 tokens, vanilla 0 against 1, margin {words}" in text
    assert "rounding explains up to 2.0000)" in text


@pytest.mark.parametrize("quiet", [False, True])
def test_what_selfdraft_warns_of_is_a_line(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a warning that is hidden with those of the libraries, or shows our code."""
    with quiet_libraries(is_verbose=False, hides_own=quiet):
        warnings.warn("a library's", FutureWarning, stacklevel=1)
        warnings.warn("torch 9 is newer", SelfdraftWarning, stacklevel=1)
    expected = "" if quiet else "warning: torch 9 is newer\n"
    assert capsys.readouterr().err == expected
