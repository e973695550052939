"""`selfdraft bench simulate`: what speculation would gain on hardware that one does not have."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfdraft.cli.command import Verbose
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import spinner, stderr_console, write_json
from selfdraft.config import require

if TYPE_CHECKING:
    from selfdraft.bench.model_shape import ModelShape
    from selfdraft.bench.roofline import Device
    from selfdraft.bench.simulation import Acceptances, Prediction
    from selfdraft.bench.simulation_check import CheckedPass

_CONTEXTS = (256, 2048, 8192, 32768)
_BATCHES = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeOptions:
    """The model, as a config or as numbers."""

    layers: Annotated[
        int | None, typer.Option(metavar="N", help="Decoder layers.", rich_help_panel="Shape")
    ] = None
    width: Annotated[
        int | None,
        typer.Option(metavar="N", help="Width of the residual stream.", rich_help_panel="Shape"),
    ] = None
    heads: Annotated[
        int | None, typer.Option(metavar="N", help="Attention heads.", rich_help_panel="Shape")
    ] = None
    kv_heads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Key and value heads; as --heads.", rich_help_panel="Shape"),
    ] = None
    mlp_width: Annotated[
        int | None,
        typer.Option(metavar="N", help="Width inside the MLPs.", rich_help_panel="Shape"),
    ] = None
    vocab: Annotated[
        int | None, typer.Option(metavar="N", help="Vocabulary.", rich_help_panel="Shape")
    ] = None

    def shape(self, config: Path | None) -> "ModelShape | None":
        """The shape that was asked for; None if none was."""
        from selfdraft.bench.model_shape import ModelShape, shape_of

        numbers = (self.layers, self.width, self.heads, self.mlp_width, self.vocab)
        if config is not None:
            require(numbers == (None,) * 5, "give a CONFIG or numbers, not both")
            return shape_of(config)
        if numbers == (None,) * 5:
            return None
        layers, width, heads, mlp_width, vocab = (number or 0 for number in numbers)
        require(
            all(number is not None for number in numbers) and heads > 0,
            "a shape needs --layers, --width, --heads, --mlp-width and --vocab: give all of them",
        )
        return ModelShape(
            name="given shape",
            num_layers=layers,
            width=width,
            num_heads=heads,
            num_kv_heads=self.kv_heads or heads,
            head_dim=width // heads,
            mlp_width=mlp_width,
            vocab_size=vocab,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """On what, and how well drafts are accepted."""

    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="a100, h100 or rtx-4090 (what their vendors state); --bandwidth and --tflops "
            "change it.",
            rich_help_panel="Device",
        ),
    ] = "a100"
    bandwidth: Annotated[
        float | None,
        typer.Option(metavar="GB/S", help="Memory that can be read.", rich_help_panel="Device"),
    ] = None
    tflops: Annotated[
        float | None,
        typer.Option(
            metavar="TFLOP/S",
            help="Matrix products in the target's precision.",
            rich_help_panel="Device",
        ),
    ] = None
    overhead: Annotated[
        float,
        typer.Option(
            metavar="MS",
            help="What a layer costs besides, in each pass; 0 is the best that can be.",
            rich_help_panel="Device",
        ),
    ] = 0.0
    acceptance: Annotated[
        list[str],
        typer.Option(
            metavar="RATE",
            help="skip:RATIO=RATE, int8=RATE, int4=RATE or free=RATE, measured by `bench run`; "
            "may be given several times. Assumed unless given.",
            rich_help_panel="Draft",
        ),
    ] = field(default_factory=list)
    context: Annotated[
        int, typer.Option(metavar="N", help="Tokens that are read.", rich_help_panel="Load")
    ] = 256
    batch: Annotated[
        int, typer.Option(metavar="N", help="Sequences at once.", rich_help_panel="Load")
    ] = 1
    check: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Load this model, time passes on this machine, and print how far off the "
            "predictions are.",
            rich_help_panel="Check",
        ),
    ] = None

    def __post_init__(self) -> None:
        require(self.context > 0, f"context is {self.context}: give 1 or more")
        require(self.batch > 0, f"batch is {self.batch}: give 1 or more")

    def chosen_device(self) -> "Device":
        """The device, with what was changed of it."""
        from selfdraft.bench.roofline import DEVICES, Device

        require(
            self.device in DEVICES or (self.bandwidth is not None and self.tflops is not None),
            f"device {self.device!r} is not known: give --bandwidth and --tflops, or one of "
            f"{', '.join(DEVICES)}",
        )
        known = DEVICES.get(self.device)
        bandwidth = self.bandwidth and self.bandwidth * 1e9
        flops = self.tflops and self.tflops * 1e12
        return Device(
            name=self.device,
            bytes_per_second=bandwidth or (known.bytes_per_second if known else 0.0),
            flops_per_second=flops or (known.flops_per_second if known else 0.0),
            seconds_per_layer=self.overhead / 1e3,
        )


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
    from selfdraft.model.loading import pull

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
