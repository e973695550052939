"""`selfdraft check`: is the output really the same, on this model and this machine?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import progress_bar, stderr_console, write_json
from selfdraft.config import require

if TYPE_CHECKING:
    from selfdraft.bench.run.contract import Comparison, Contract

EXIT_BROKEN_CONTRACT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSetOptions:
    """Which prompts, how many, and how far."""

    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines, each with a "prompt", a "question" or "turns"; eight prompts of our '
            "own unless given.",
            rich_help_panel="Prompts",
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Use the first N prompts only.", rich_help_panel="Prompts"),
    ] = None
    max_new_tokens: Annotated[
        int,
        typer.Option(
            metavar="N", help="Most tokens to write for each prompt.", rich_help_panel="Prompts"
        ),
    ] = 64
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Write one JSON document with every divergence to stdout.",
            rich_help_panel="Output",
        ),
    ] = False

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit > 0, f"limit is {self.limit}: give 1 or more")
        require(self.max_new_tokens > 0, f"max_new_tokens is {self.max_new_tokens}: give 1 or more")


def check(model: ModelOptions, prompts: PromptSetOptions) -> None:
    """Check that speculation changes nothing, on this model and this machine.

    Every prompt is decoded plainly and with drafts that are good, bad and absurd; tokens, and in
    bfloat16 on a CPU the bits of all logits, must be the same. It also compares with the
    generate() of transformers and shows each divergence with its margin: how much better the one
    token was than the other. Exit code 1 if the contract does not hold.

    For example:

      selfdraft check smollm2-135m --limit 2 --max-new-tokens 32
    """
    from selfdraft.bench.run.contract import Contract, check_contract, num_steps
    from selfdraft.bench.tasks.prompts import encode_all, load_prompts

    texts = load_prompts(prompts.prompts, prompts.limit)
    with model.engine("swift") as engine:
        token_ids = encode_all(texts, engine.tokenizer)
        with progress_bar("checking", num_steps(engine, len(texts))) as advance:
            comparisons = check_contract(engine, token_ids, prompts.max_new_tokens, advance)
        contract = Contract.for_engine(engine)
    is_kept = all(contract.is_kept_by(comparison) for comparison in comparisons)
    if prompts.as_json:
        write_json(
            {"contract": contract.level, "is_kept": is_kept}
            | {"comparisons": [asdict(comparison) for comparison in comparisons]}
        )
    else:
        _report(contract, comparisons, is_kept=is_kept)
    if not is_kept:
        raise typer.Exit(EXIT_BROKEN_CONTRACT)


def _kept(contract: "Contract", comparison: "Comparison") -> str:
    if not contract.covers(comparison):
        return "not promised"
    return "yes" if contract.is_kept_by(comparison) else "NO"


def _report(contract: "Contract", comparisons: Sequence["Comparison"], *, is_kept: bool) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("compared with vanilla", "prompts", "same tokens", "same bits", "kept"):
        table.add_column(title, justify="left" if title.startswith("compared") else "right")
    for comparison in comparisons:
        bits = comparison.num_same_bits
        table.add_row(
            comparison.name,
            str(comparison.num_prompts),
            str(comparison.num_same_tokens),
            "-" if bits is None else str(bits),
            _kept(contract, comparison),
        )
    console = stderr_console()
    console.print(f"contract: {contract.level}")
    console.print(table)
    for comparison in comparisons:
        for divergence in comparison.divergences:
            nature = "a near-tie" if divergence.is_near_tie else "no near-tie"
            console.print(
                f"{comparison.name}: prompt {divergence.prompt} parts after "
                f"{divergence.position} tokens, vanilla {divergence.vanilla_token} against "
                f"{divergence.other_token}, margin {divergence.margin:.4f} ({nature}: rounding "
                f"explains up to {divergence.tolerance:.4f})"
            )
    console.print("the contract holds" if is_kept else "THE CONTRACT DOES NOT HOLD")
