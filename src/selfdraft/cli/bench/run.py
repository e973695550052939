"""`selfdraft bench run`: methods against each other on tasks, by a run that can be repeated."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from selfdraft.cli.bench.methods import ready_methods
from selfdraft.cli.bench.options import RunOptions
from selfdraft.cli.bench.progress import bench_progress
from selfdraft.cli.bench.table import print_summary
from selfdraft.cli.command import EXIT_INTERRUPTED, EXIT_NOT_LOSSLESS
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import say, spinner, write_json

if TYPE_CHECKING:
    from selfdraft.bench.methods.method import Method
    from selfdraft.bench.run.runner import Work
    from selfdraft.engine import Engine

_CODE_WARNING = (
    "warning: --execute-code runs programs that the model wrote, on this machine and as this user; "
    "they have limits of time and memory, but they can read your files and use your network"
)


def run(model: ModelOptions, options: RunOptions) -> None:
    """Measure methods against each other, on the same prompts and in turn.

    Speedups are ratios of total tokens per second, with prefill, and with the interval that the
    choice of prompts leaves. Every output is compared with plain decoding; where two part, the
    margin tells a near-tie from a wrong token. Results go to a folder at once, so Ctrl-C loses
    nothing and the same command goes on. The last line of stdout is the summary as JSON. Exit
    code 1 if a draft changed the text. The machine should be doing nothing else.

    For example:

      selfdraft bench run smollm2-135m --methods transformers,off,swift --limit 8
    """
    run_benchmark(model, options)


def run_benchmark(
    model: ModelOptions,
    options: RunOptions,
    tables: Sequence[Callable[[dict[str, Any]], None]] = (print_summary,),
) -> None:
    """What `run` does, with the tables that are to be shown of the summary.

    Raises:
        typer.Exit: it was interrupted, or a draft changed the text.
    """
    if options.execute_code:
        say(_CODE_WARNING)
    folder, summary = _measured(model, options)
    for print_table in tables:
        print_table(summary)
    say(f"results are in {folder}")
    ending = summary["ending"]
    if ending != "complete":
        say(f"not complete ({ending}): the same command goes on")
    write_json({"folder": str(folder)} | summary)
    if ending == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(_is_wrong(method) for method in summary["methods"].values()):
        raise typer.Exit(EXIT_NOT_LOSSLESS)


def _measured(model: ModelOptions, options: RunOptions) -> tuple[Path, dict[str, Any]]:
    """The folder of the results, and the summary of what is in it now."""
    from selfdraft.bench.report.summary import summarise
    from selfdraft.bench.run.provenance import provenance
    from selfdraft.bench.run.result_folder import ResultFolder
    from selfdraft.bench.run.runner import measure
    from selfdraft.bench.tasks.task import TaskName

    tasks = [TaskName.parse(text) for text in options.tasks]
    with model.engine("off") as engine:
        device = engine.target.device
        head = {
            "arguments": options.arguments(model.model),
            "provenance": provenance(model.model, engine.target),
        }
        folder = ResultFolder(options.folder(model.model), head)
        work = _work(tasks, options, engine)
        with ready_methods(model, options, engine, _model_folder(model)) as methods:
            folder.begin()
            names = [method.name for method in methods]
            with bench_progress(names, len(work) * len(methods)) as progress:
                for measurement in folder.measurements:
                    progress.measured(measurement)
                limit = options.time_limit
                ending = measure(work, methods, folder, progress, device=device, time_limit=limit)
        with spinner("comparing outputs"):
            summary = summarise(
                folder, work, methods, engine, ending=ending, may_run_code=options.execute_code
            )
        if options.costs and ending == "complete":
            summary["pass_costs"] = _pass_costs(methods, engine)
        folder.write_summary(summary)
    return folder.path, summary


def _is_wrong(method: dict[str, Any]) -> bool:
    """Ours alone: what other people's speculation does to the text is shown, not judged."""
    return method["family"] == "selfdraft" and method["is_lossless"] is False


def _model_folder(model: ModelOptions) -> Path:
    from selfdraft.model.loading.load import pull

    return pull(model.model, dtype=model.dtype, device=model.device)


def _work(tasks: list[Any], options: RunOptions, engine: "Engine") -> "list[Work]":
    """The prompts that are sampled, as token ids, in the order of measuring."""
    from selfdraft.bench.run.requests import requests_of
    from selfdraft.bench.run.runner import interleave
    from selfdraft.bench.tasks.task import load_task

    with spinner("reading the tasks"):
        pairs = [
            pair
            for task in tasks
            for pair in requests_of(
                load_task(task),
                engine,
                limit=options.limit,
                max_prompt_tokens=options.max_prompt_tokens,
                max_new_tokens=options.max_new_tokens,
                temperature=options.temperature,
            )
        ]
    return interleave(pairs, options.repeats)


def _pass_costs(methods: "list[Method]", engine: "Engine") -> list[dict[str, Any]]:
    from dataclasses import asdict

    from selfdraft.bench.methods.method import EngineMethod, plan_of
    from selfdraft.search.pass_costs import measure_passes

    drafts = {
        method.name: engine.target.draft_view(plan)
        for method in methods
        if isinstance(method, EngineMethod)
        and (plan := plan_of(method.engine, method.draft)) is not None
    }
    with spinner("timing single passes"):
        return [asdict(cost) for cost in measure_passes(engine.target, drafts)]
