"""`selfdraft inspect`: what a model is, and what a draft of it may leave out."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.draft_plan import describe
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import write_json

if TYPE_CHECKING:
    from selfdraft.cli.model_report import ModelReport

_LAYERS_PER_LINE = 60
_LEGEND = "# skipped by the default draft   o may be skipped   - always runs"


def inspect(
    model: ModelOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write a JSON document.", rich_help_panel="Output")
    ] = False,
) -> None:
    """Show a model's size, and which layers a draft may skip.

    Exits with code 2 and says why if the model cannot be used.

    For example:

      selfdraft inspect smollm2-135m
    """
    with model.engine() as engine:
        from selfdraft.cli.model_report import report_on

        report = report_on(engine, model.model)
        plan = describe(engine, "auto")
    if as_json:
        write_json(report.as_dict())
        return
    for line in _lines(report, plan):
        print(line)


def _lines(report: "ModelReport", plan: str) -> Iterator[str]:
    weights = report.weight_bytes
    context = "no limit" if report.max_context is None else f"{report.max_context:,} tokens"
    tied = "tied" if report.has_tied_embeddings else "not tied"
    shares = {
        "attention": weights.attention,
        "MLP": weights.mlp,
        "embeddings + head": weights.embeddings_and_head,
        "other": weights.other,
    }
    rows = {
        "model": report.model,
        "architecture": report.architecture,
        "parameters": f"{report.num_parameters:,} ({_bytes(weights.total)})",
        "weights": ", ".join(f"{n} {b / weights.total:.0%}" for n, b in shares.items() if b),
        "dtype, device": f"{report.dtype} on {report.device}",
        "layers": str(report.num_layers),
        "vocabulary": f"{report.vocab_size:,} tokens, embeddings and head {tied}",
        "context": f"{context}, {_bytes(report.kv_bytes_per_token)} of KV cache per token",
        "draft": plan,
    }
    for label, value in rows.items():
        yield f"{label:<14} {value}"
    yield ""
    yield from _layer_map(report)


def _layer_map(report: "ModelReport") -> Iterator[str]:
    """Two rows of one character per layer, then the layers that always run, with the reason."""
    skipped = report.default_skip_set
    eligible = set(report.eligible_layers)
    for start in range(0, report.num_layers, _LAYERS_PER_LINE):
        layers = range(start, min(start + _LAYERS_PER_LINE, report.num_layers))
        ruler = "".join(f"{n:<10}" for n in layers[::10])
        yield f"{'layer':<14} {ruler.rstrip()}"
        for label, chosen in (("attention", skipped.attention), ("MLP", skipped.mlp)):
            marks = ("#" if n in chosen else "o" if n in eligible else "-" for n in layers)
            yield f"{label:<14} {''.join(marks)}"
    yield f"{'':<14} {_LEGEND}"
    for reason, group in groupby(sorted(report.reasons.items()), key=lambda item: item[1]):
        yield f"{'layer ' + ', '.join(str(n) for n, _ in group):<14} {reason}"


def _bytes(number: int) -> str:
    """`number` with a unit, in powers of 1024."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"
