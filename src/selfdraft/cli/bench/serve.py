"""`selfdraft bench serve`: what the server costs beyond the engine."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfdraft.cli.bench.text_options import MaxNewTokens, MaxPromptTokens, Temperature
from selfdraft.cli.command import EXIT_NOT_LOSSLESS, AsJson
from selfdraft.cli.option_checks import listed, require_positive
from selfdraft.cli.options import DraftMode, ModelOptions
from selfdraft.cli.serve import require_server_packages
from selfdraft.cli.terminal import progress_bar, say, spinner, stderr_console, write_json
from selfdraft.config import RequestConfig, require

if TYPE_CHECKING:
    from selfdraft.bench.serve_overhead import ServedRequest, ServeOverhead
    from selfdraft.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeBenchOptions:
    """What to ask, and how often."""

    tasks: Annotated[
        list[str],
        typer.Option(
            metavar="TASK",
            help="As in bench run: built-in, spec-bench, ..., TASK/CATEGORY, TASK=FILE.jsonl or "
            "FILE.jsonl. Several: with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: ["built-in"])
    draft: Annotated[
        DraftMode,
        typer.Option(help="What drafts, on both ways.", rich_help_panel="What"),
    ] = "auto"
    limit: Annotated[
        int,
        typer.Option(metavar="N", help="Most prompts per task.", rich_help_panel="How much"),
    ] = 6
    max_new_tokens: MaxNewTokens = 128
    max_prompt_tokens: MaxPromptTokens = None
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N", help="Times to measure every prompt.", rich_help_panel="How much"
        ),
    ] = 3
    temperature: Temperature = 0.0
    as_json: AsJson = False

    def __post_init__(self) -> None:
        names = listed("tasks", self.tasks)
        require(bool(names), "tasks is empty: name at least one")
        object.__setattr__(self, "tasks", names)
        RequestConfig(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        require_positive(self, "limit", "max_prompt_tokens", "repeats")


def serve(model: ModelOptions, options: ServeBenchOptions) -> None:
    """Measure what the server costs beyond the engine, for one stream.

    One engine is loaded. Every prompt goes to it by a call and over HTTP, streamed, to a server in
    this process that has the same engine; in turn, and after a run that is not measured, so that
    neither profits from the other. The ratio is the server's tokens per second over the engine's,
    with tokenizing and prefill; the client's own work counts against the server. Texts are
    compared: exit code 1 if they part. The machine should be doing nothing else.

    For example:

      selfdraft bench serve smollm2-135m --limit 6 --repeats 3
    """
    require_server_packages()
    from selfdraft.bench.run.provenance import provenance
    from selfdraft.bench.serve_overhead import MODEL, measure_serving, serving
    from selfdraft.server.settings import ServerSettings

    settings = ServerSettings(served_model_name=MODEL, draft=options.draft)
    with (
        ExitStack() as stack,
        serving(lambda: stack.enter_context(model.engine(options.draft)), settings) as server,
    ):
        requests = server.service.call(lambda engine: _requests(engine, options))
        with progress_bar("measuring", len(requests) * options.repeats) as advance:
            found = measure_serving(
                server,
                requests,
                draft=options.draft,
                num_repeats=options.repeats,
                on_step=advance,
            )
        origin = server.service.call(lambda engine: provenance(model.model, engine.target))
    if options.as_json:
        write_json(_document(found, options, origin))
    else:
        _report(found, len(requests))
    if found.num_different:
        say(f"NOT THE SAME: {found.num_different} texts of the server are not the engine's")
        raise typer.Exit(EXIT_NOT_LOSSLESS)


def _requests(engine: "Engine", options: ServeBenchOptions) -> "list[ServedRequest]":
    """The prompts that are sampled, always the same ones."""
    from selfdraft.bench.run.requests import requests_of
    from selfdraft.bench.serve_overhead import ServedRequest
    from selfdraft.bench.tasks.task import TaskName, load_task

    has_template = engine.tokenizer is not None and engine.tokenizer.chat_template is not None
    with spinner("reading the tasks"):
        return [
            ServedRequest(
                prompt,
                has_template and not prompt.is_raw,
                request.max_new_tokens,
                request.temperature,
                request.seed,
            )
            for task in options.tasks
            for prompt, request in requests_of(
                load_task(TaskName.parse(task)),
                engine,
                limit=options.limit,
                max_prompt_tokens=options.max_prompt_tokens,
                max_new_tokens=options.max_new_tokens,
                temperature=options.temperature,
            )
        ]


def _document(
    found: "ServeOverhead", options: ServeBenchOptions, origin: dict[str, Any]
) -> dict[str, Any]:
    pairs = [asdict(pair) | {"ratio": pair.ratio} for pair in found.pairs]
    return {
        "provenance": origin,
        "arguments": asdict(options),
        **(asdict(found) | {"pairs": pairs}),
    }


def _report(found: "ServeOverhead", num_prompts: int) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("prompts", "pairs", "engine", "server", "ratio", "of totals", "same text"):
        table.add_column(title, justify="right")
    num_pairs = len(found.pairs)
    table.add_row(
        str(num_prompts),
        str(num_pairs),
        f"{found.engine_tokens_per_second:.1f}",
        f"{found.server_tokens_per_second:.1f}",
        f"{found.median_ratio:.3f}",
        f"{found.total_ratio:.3f}",
        f"{num_pairs - found.num_different}/{num_pairs}",
    )
    console = stderr_console()
    console.print("tokens per second, prefill included (median); the server's over the engine's")
    console.print(table)
