"""The options of `selfdraft bench simulate`: a model's shape, a device, and how drafts do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.config import require

if TYPE_CHECKING:
    from selfdraft.bench.model_shape import ModelShape
    from selfdraft.bench.roofline import Device


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
    overlap: Annotated[
        bool,
        typer.Option(
            "--overlap/--no-overlap",
            help="Whether the device reads memory while it multiplies, as GPUs do and CPUs do not.",
            rich_help_panel="Device",
        ),
    ] = True
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
            overlaps=self.overlap,
        )
