"""`selfdraft generate`: a prompt in, text out."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.command import EXIT_INTERRUPTED
from selfdraft.cli.cores import told_of_neighbours
from selfdraft.cli.draft_plan import describe, skip_set_of
from selfdraft.cli.options import DraftOptions, ModelOptions, SamplingOptions
from selfdraft.cli.prompt_options import PromptOptions
from selfdraft.cli.stats_table import SpeedComparison, stats_table
from selfdraft.cli.terminal import (
    drafted_in_green,
    end_line,
    run_counting,
    spinner,
    stderr_console,
    stream_text,
    write_json,
)
from selfdraft.config import RequestConfig, require

if TYPE_CHECKING:
    from selfdraft.drafts import Draft
    from selfdraft.engine import Engine
    from selfdraft.generation import Result
    from selfdraft.text.prompt import Prompt
    from selfdraft.text.text_stream import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is shown besides the text."""

    logprobs: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Report the N likeliest tokens at every position (with --json); 0 is off.",
            rich_help_panel="Output",
        ),
    ] = RequestConfig().logprobs
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Decode without the draft too, in turn, and show both speeds side by side.",
            rich_help_panel="Output",
        ),
    ] = False
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Write one JSON document with text, tokens and statistics instead of the text.",
            rich_help_panel="Output",
        ),
    ] = False
    stats: Annotated[
        bool,
        typer.Option(
            "--stats/--no-stats",
            help="Show statistics on stderr after the text.",
            rich_help_panel="Output",
        ),
    ] = True
    color_drafted: Annotated[
        bool,
        typer.Option(
            "--color-drafted",
            help="Show drafted tokens in green, if stdout is a terminal.",
            rich_help_panel="Output",
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Write nothing to stderr but errors, and the progress of a first download and "
            "conversion.",
            rich_help_panel="Output",
        ),
    ] = False

    def __post_init__(self) -> None:
        require(
            self.as_json or not self.logprobs, "--logprobs is part of the JSON document: add --json"
        )
        require(
            self.as_json or not (self.compare and self.quiet),
            "--compare shows what --quiet hides: leave one out, or add --json",
        )


def generate(
    model: ModelOptions,
    prompt: PromptOptions,
    sampling: SamplingOptions,
    draft: DraftOptions,
    output: OutputOptions,
) -> None:
    """Write the answer to a prompt.

    The text goes to stdout as it is written, everything else to stderr. A model with a chat
    template gets the prompt as a message of the user; --raw continues the prompt as it stands.

    For example:

      selfdraft generate smollm2-135m "Why is the sky blue?"

      git diff | selfdraft generate smollm2-135m --system "Explain this."

      selfdraft generate smollm2-135m --raw "The capital of France is" --json
    """
    request = sampling.request(logprobs=output.logprobs)
    chosen = draft.resolve()
    require(chosen != "off" or not output.compare, "--compare needs a draft: leave out --draft off")
    text = prompt.read()
    with model.engine(chosen, quiet=output.quiet) as engine:
        asked = prompt.for_model(text, engine.tokenizer)
        vanilla = None
        if output.compare:
            _warm_up(engine, asked, output)
            vanilla = engine.stream(asked, draft="off", **request)
        drafted = engine.stream(asked, **request)
        pieces = drafted if vanilla is None else _in_turn(drafted, vanilla)
        with told_of_neighbours(engine, hidden=output.quiet):
            is_complete = _show(pieces, output)
            compared = vanilla.result if vanilla is not None and is_complete else None
            if output.as_json:
                settings = _settings(engine, model, chosen, draft.draft)
                write_json(_document(drafted.result, compared) | settings)
            elif not output.quiet:
                _report(drafted.result, compared, output, describe(engine, chosen))
    if not is_complete:
        raise typer.Exit(EXIT_INTERRUPTED)


def _show(pieces: "Iterable[Piece]", output: OutputOptions) -> bool:
    """Write the text as it comes, or only count it for a JSON document. False if interrupted."""
    if output.as_json:
        return run_counting(pieces, "writing", hidden=output.quiet)
    plain = (piece.text for piece in pieces)
    texts = drafted_in_green(pieces) if output.color_drafted else plain
    is_complete = stream_text(texts, quiet=output.quiet)
    end_line()
    return is_complete


def _warm_up(engine: "Engine", prompt: "Prompt", output: OutputOptions) -> None:
    """Run both ways for a few tokens, so that neither side of a comparison is the first."""
    with spinner("warming up", hidden=output.quiet):
        for draft in (None, "off"):
            engine.generate(prompt, draft=draft, max_new_tokens=4)


def _in_turn(drafted: "Iterator[Piece]", vanilla: "Iterator[Piece]") -> "Iterator[Piece]":
    """Pieces of `drafted`, while `vanilla` keeps step unseen.

    Whatever else the machine does meanwhile slows both down alike; one after the other, a busy
    minute would look like a speedup.
    """
    num_ahead = 0
    for piece in drafted:
        yield piece
        num_ahead += len(piece.token_ids)
        while num_ahead > 0 and (kept := next(vanilla, None)) is not None:
            num_ahead -= len(kept.token_ids)
    for _ in vanilla:
        pass


def _report(drafted: "Result", vanilla: "Result | None", output: OutputOptions, plan: str) -> None:
    """Show the tables on stderr."""
    console = stderr_console()
    if vanilla is None:
        if output.stats:
            console.print()
            console.print(stats_table(drafted, plan))
        return
    comparison = SpeedComparison(drafted, vanilla)
    console.print()
    console.print(plan)
    console.print(comparison.table())
    for sentence in comparison.verdict():
        console.print(sentence)


def _document(drafted: "Result", vanilla: "Result | None") -> dict[str, object]:
    """The result as plain data; with a comparison, vanilla's result beside it."""
    document = drafted.as_dict()
    if vanilla is None:
        return document
    comparison = SpeedComparison(drafted, vanilla)
    return document | {
        "vanilla": vanilla.as_dict(),
        "speedup": comparison.speedup,
        "is_identical": comparison.is_identical,
    }


def _settings(
    engine: "Engine", options: ModelOptions, draft: "Draft", mode: str
) -> dict[str, object]:
    """What has to be known to repeat the run, besides the options of the request."""
    skip_set = skip_set_of(engine, draft)
    return {
        "model": options.model,
        "dtype": str(engine.target.dtype).removeprefix("torch."),
        "device": str(engine.target.device),
        "draft": mode,
        "skip_set": None if skip_set is None else asdict(skip_set),
        "selfdraft_version": version("selfdraft"),
    }
