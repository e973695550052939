"""`selfdraft inspect`: what a model is, and what a draft of it may leave out."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.inspect.cost_words import cost_lines
from selfdraft.cli.inspect.layer_map import layer_map
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import spinner, write_json
from selfdraft.model.skip_set import SkipSet

if TYPE_CHECKING:
    from selfdraft.cli.inspect.model_report import ModelReport
    from selfdraft.model.structure.sublayers import DecoderLayers


def inspect(
    model: ModelOptions,
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Measure what passes cost here, and say what auto does and why; takes a while.",
            rich_help_panel="Measurement",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write a JSON document.", rich_help_panel="Output")
    ] = False,
) -> None:
    """Show a model's size, which layers a draft may skip, and the drafts that were found for it.

    Exits with code 2 and says why if the model cannot be used.

    For example:

      selfdraft inspect smollm2-135m

      selfdraft inspect smollm2-135m --costs
    """
    measured = None
    with model.engine("auto" if costs else "off") as engine:
        from selfdraft.cli.inspect.model_report import report_on

        report = report_on(engine, model.model)
        layers = engine.target.layers
        if costs:
            from selfdraft.cli.inspect.cost_report import measure_report

            with spinner("timing passes", hidden=model.verbose):
                measured = measure_report(engine)
    if as_json:
        write_json(report.as_dict() | ({"costs": measured.as_dict()} if measured else {}))
        return
    rest = _drafts(report, layers) if measured is None else cost_lines(measured)
    for line in (*_lines(report), "", *rest):
        print(line)


def _lines(report: "ModelReport") -> Iterator[str]:
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
        "4-bit copy": _copy(report),
        "copies on disk": _kept(report),
    }
    for label, value in rows.items():
        yield f"{label:<14} {value}"


def _copy(report: "ModelReport") -> str:
    if not report.rounded_copy_bytes:
        return "cannot be had"
    share = report.rounded_copy_bytes / report.weight_bytes.total
    return f"{_bytes(report.rounded_copy_bytes)} ({share:.0%} of the weights), to draft with"


def _kept(report: "ModelReport") -> str:
    kept = report.kept_copies
    if not kept.limit_bytes:
        return "switched off (SELFDRAFT_COPY_CACHE)"
    own = f"this model's {_bytes(kept.own_bytes)}" if kept.own_bytes else "none of this model"
    return (
        f"{own}; all {_bytes(kept.total_bytes)} of at most {_bytes(kept.limit_bytes)}\n"
        f"{'':<14} in {kept.folder}"
    )


def _drafts(report: "ModelReport", layers: "DecoderLayers") -> Iterator[str]:
    """The remembered skip sets as maps of the layers, then what always runs, with the reason."""
    if not report.remembered:
        yield "no skip set is remembered; `selfdraft search` finds one"
        yield from layer_map(layers, SkipSet())
    for draft in report.remembered:
        speedup = draft.predicted_speedup
        predicted = "" if speedup is None else f", {speedup:.2f}x predicted"
        yield (
            f"found {draft.date}: skips {draft.skip_set.num_skipped} sublayers, "
            f"matchness {draft.matchness:.2f}{predicted}"
        )
        yield from layer_map(layers, draft.skip_set)
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
