"""`python -m research overhead`: what speculation costs beyond its forward passes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import progress_bar, stderr_console, write_json
from selfdraft.config import require

if TYPE_CHECKING:
    from research.overhead import ChainOverhead
    from selfdraft.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadOptions:
    """How much to measure."""

    chain: Annotated[
        list[int],
        typer.Option(
            metavar="K",
            help="Length of the draft chains, in tokens; may be given several times.",
        ),
    ] = field(default_factory=lambda: [4, 8])
    num_rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", help="Rounds to decode for each prompt.")
    ] = 12
    limit: Annotated[int, typer.Option(metavar="N", help="Prompts to decode.")] = 6
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON lines with prompts; our own unless given."),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")] = (
        False
    )

    def __post_init__(self) -> None:
        require(all(k > 0 for k in self.chain), f"chain is {self.chain}: give 1 or more")
        require(self.num_rounds > 0, f"rounds is {self.num_rounds}: give 1 or more")
        require(self.limit > 0, f"limit is {self.limit}: give 1 or more")


def overhead(model: ModelOptions, options: OverheadOptions) -> None:
    """Measure what speculation costs beyond its forward passes.

    The model is doubled with layers that add nothing, so that a perfect draft is known: skip them.
    Chains of K tokens are then always accepted, and theory says what they gain, from the costs of
    a draft step (c) and of a check (v) relative to a plain step: (K + 1) / (K c + v). Efficiency
    is the measured speedup over the predicted one; the rest is overhead. The machine should be
    doing nothing else.

    For example:

      python -m research overhead smollm2-135m --chain 4 --chain 8
    """
    from research.overhead import measure_chain
    from research.planted import plant
    from selfdraft.bench.tasks.prompts import encode_all, load_prompts
    from selfdraft.engine import Engine

    texts = load_prompts(options.prompts, options.limit)
    with model.engine("off") as loaded:
        planted = plant(loaded.target.model)
        engine = Engine(planted.model, draft="off")  # no tokenizer, hence no end token of its own
        prompts = encode_all(texts, loaded.tokenizer)
        with progress_bar("measuring", 3 * len(prompts) * len(options.chain)) as advance:
            results = [
                measure_chain(
                    engine,
                    planted.perfect_skip_set,
                    prompts,
                    num_steps=num_steps,
                    num_rounds=options.num_rounds,
                    on_step=advance,
                )
                for num_steps in options.chain
            ]
        conditions = _conditions(engine, len(prompts))
    if options.as_json:
        rows = [asdict(result) | {"efficiency": result.efficiency} for result in results]
        write_json({"conditions": conditions, "chains": rows})
    else:
        _report(results, conditions)


def _conditions(engine: "Engine", num_prompts: int) -> dict[str, object]:
    import torch

    return {
        "selfdraft": version("selfdraft"),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "dtype": str(engine.target.dtype).removeprefix("torch."),
        "device": str(engine.target.device),
        "threads": torch.get_num_threads(),
        "layers": engine.target.layers.num_layers,
        "prompts": num_prompts,
    }


def _report(results: Sequence["ChainOverhead"], conditions: dict[str, object]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = ("K", "c", "v", "M", "predicted", "measured", "efficiency", "peak memory")
    for title in titles:
        table.add_column(title, justify="right")
    for result in results:
        peak = result.peak_memory_ratio
        table.add_row(
            str(result.num_steps),
            f"{result.draft_cost:.3f}",
            f"{result.verify_cost:.3f}",
            f"{result.mean_accepted_length:.2f}",
            f"{result.predicted_speedup:.2f}x",
            f"{result.measured_speedup:.2f}x",
            f"{result.efficiency:.2f}",
            "-" if peak is None else f"{peak - 1:+.1%}",
        )
    console = stderr_console()
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    console.print(table)
