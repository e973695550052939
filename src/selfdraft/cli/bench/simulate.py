"""`selfdraft bench simulate`: what speculation would gain on hardware that one does not have."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfdraft.cli.bench.simulate_options import ShapeOptions, SimulateOptions
from selfdraft.cli.command import Verbose
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import spinner, stderr_console, write_json

if TYPE_CHECKING:
    from selfdraft.bench.model_shape import ModelShape
    from selfdraft.bench.roofline import Device
    from selfdraft.bench.simulation import Acceptances, Prediction
    from selfdraft.bench.simulation_check import CheckedPass

_CONTEXTS = (256, 2048, 8192, 32768)
_BATCHES = (1, 4, 16, 64)


def simulate(
    shape: ShapeOptions,
    options: SimulateOptions,
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="A config.json or its folder; without it and without numbers, Llamas of five "
            "sizes.",
            show_default=False,
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Predict speedups from a model's shape and a device's bandwidth; no weights are needed.

    A pass takes as long as its bytes or its arithmetic, whichever is more; a chain of the best
    length is drafted and checked. Acceptances are measured or assumed, and the assumed ones are
    only as good as their source: a 1.5B model for small ones, published figures for large ones.
    The last line of stdout is JSON. --check says how wrong the passes are on this machine.

    For example:

      selfdraft bench simulate --device rtx-4090 --acceptance int4=0.9
    """
    if options.check is not None:
        _check(options.check, is_verbose=verbose)
        return
    from selfdraft.bench.model_shape import LLAMA_SIZES
    from selfdraft.bench.simulation import Acceptances

    device, acceptances = options.chosen_device(), Acceptances.parse(options.acceptance)
    chosen = shape.shape(config)
    shapes = LLAMA_SIZES if chosen is None else (chosen,)
    load = {"context": options.context, "batch": options.batch}
    by_size = {s.name: _predictions(s, device, acceptances, **load) for s in shapes}
    focus = shapes[len(shapes) // 2]
    by_context = {
        str(c): _predictions(focus, device, acceptances, context=c, batch=options.batch)
        for c in _CONTEXTS
    }
    by_batch = {
        str(b): _predictions(focus, device, acceptances, context=options.context, batch=b)
        for b in _BATCHES
    }
    console = stderr_console()
    console.print(
        f"{device.name}: {device.bytes_per_second / 1e9:.0f} GB/s, "
        f"{device.flops_per_second / 1e12:.3g} TFLOP/s, {1e3 * device.seconds_per_layer:g} ms a "
        f"layer; context {options.context}, batch {options.batch}"
    )
    console.print(_plan_table(focus.name, by_size[focus.name]))
    for title, rows in (
        ("speedups by size", by_size if len(by_size) > 1 else {}),
        (f"{focus.name}, by context", by_context),
        (f"{focus.name}, by batch", by_batch),
    ):
        if rows:
            console.print(_sweep_table(title, rows))
    write_json(
        {
            "device": asdict(device),
            "shapes": [asdict(s) | {"num_parameters": s.num_parameters} for s in shapes],
            "by_size": _plain(by_size),
            "by_context": _plain(by_context),
            "by_batch": _plain(by_batch),
        }
    )


def _predictions(
    shape: "ModelShape", device: "Device", acceptances: "Acceptances", *, context: int, batch: int
) -> "list[Prediction]":
    from selfdraft.bench.simulation import plans_for, predict

    plans = plans_for(shape, acceptances)
    return [predict(shape, device, plan, context=context, batch=batch) for plan in plans]


def _plain(rows: "dict[str, list[Prediction]]") -> dict[str, Any]:
    return {name: [asdict(p) for p in predictions] for name, predictions in rows.items()}


def _plan_table(title: str, predictions: "Sequence[Prediction]") -> Any:
    table = _table(title, ("accepted", "c", "chain", "M", "speedup", "ceiling"))
    for p in predictions:
        ceiling = "-" if math.isinf(p.ceiling) else f"{p.ceiling:.2f}"
        numbers = (f"{p.acceptance:.2f}", f"{p.draft_cost:.2f}", str(p.chain))
        table.add_row(p.plan, *numbers, f"{p.tokens_per_round:.2f}", f"{p.speedup:.2f}x", ceiling)
    return table


def _sweep_table(title: str, rows: "dict[str, list[Prediction]]") -> Any:
    table = _table(title, list(rows))
    for of_plan in zip(*rows.values(), strict=True):
        table.add_row(of_plan[0].plan, *(f"{p.speedup:.2f}" for p in of_plan))
    return table


def _table(title: str, headings: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _check(name: str, *, is_verbose: bool) -> None:
    from selfdraft.bench.model_shape import shape_of
    from selfdraft.bench.simulation_check import check_passes
    from selfdraft.model.loading.load import pull

    with ModelOptions(model=name, verbose=is_verbose).engine("off") as engine:
        shape = shape_of(pull(name))
        with spinner("timing passes"):
            device, passes = check_passes(engine, shape)
    console = stderr_console()
    console.print(
        f"this machine: {device.bytes_per_second / 1e9:.1f} GB/s and "
        f"{device.flops_per_second / 1e12:.2f} TFLOP/s in the head, "
        f"{1e3 * device.seconds_per_layer:.2f} ms a layer besides (fitted to one pass)"
    )
    console.print(_check_table(passes))
    errors = [abs(p.error) for p in passes if not p.is_calibration]
    console.print(
        f"error of the predictions: median {statistics.median(errors):.0%}, largest "
        f"{max(errors):.0%}"
    )
    write_json(
        {
            "device": asdict(device),
            "passes": [asdict(p) | {"error": p.error} for p in passes],
            "median_error": statistics.median(errors),
            "largest_error": max(errors),
        }
    )


def _check_table(passes: "Sequence[CheckedPass]") -> Any:
    table = _table("pass", ("rows", "context", "measured", "predicted", "error"))
    for p in passes:
        error = "fitted" if p.is_calibration else f"{p.error:+.0%}"
        times = (f"{1e3 * p.measured_seconds:.1f} ms", f"{1e3 * p.predicted_seconds:.1f} ms")
        table.add_row(p.plan, str(p.num_rows), str(p.context), *times, error)
    return table
