"""`selfdraft bench run`: methods against each other on tasks, by a run that can be repeated."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfdraft.cli.bench_progress import bench_progress
from selfdraft.cli.bench_table import print_summary
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import say, spinner, write_json
from selfdraft.config import RequestConfig, require

if TYPE_CHECKING:
    from selfdraft.bench.methods import Method
    from selfdraft.bench.runner import Work
    from selfdraft.engine import Engine

EXIT_NOT_LOSSLESS = 1
EXIT_INTERRUPTED = 130

_CODE_WARNING = (
    "warning: --execute-code runs programs that the model wrote, on this machine and as this user; "
    "they have limits of time and memory, but they can read your files and use your network"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What to measure, how much of it, and where the results go."""

    tasks: Annotated[
        list[str],
        typer.Option(
            metavar="TASK",
            help="built-in, spec-bench, gsm8k, humaneval, cnn-dm, tinystories, wmt or alpaca; "
            "TASK/CATEGORY for one of its categories; TASK=FILE.jsonl or FILE.jsonl to read a "
            "file. Several: with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: ["built-in"])
    methods: Annotated[
        list[str],
        typer.Option(
            metavar="METHOD",
            help="transformers (plain generate), transformers-lookup, transformers-assisted, "
            "transformers-early-exit; off, swift, auto and any other draft of the engine; "
            "skip-set=FILE, skip-ratio=R, bits=N. Several: with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: ["transformers", "off", "auto"])
    assistant: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The second model of transformers-assisted.",
            rich_help_panel="What",
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Most prompts per task, spread over its categories; always the same ones.",
            rich_help_panel="How much",
        ),
    ] = None
    max_new_tokens: Annotated[
        int,
        typer.Option(
            metavar="N", help="Most tokens to write for each prompt.", rich_help_panel="How much"
        ),
    ] = 128
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Leave out prompts that are longer.", rich_help_panel="How much"
        ),
    ] = None
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N", help="Times to measure every prompt.", rich_help_panel="How much"
        ),
    ] = 1
    temperature: Annotated[
        float,
        typer.Option(metavar="T", help="0 is greedy; else sample.", rich_help_panel="How much"),
    ] = 0.0
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop after the prompt during which it runs out; the same command goes on.",
            rich_help_panel="How much",
        ),
    ] = None
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Also time single passes by their number of rows.",
            rich_help_panel="How much",
        ),
    ] = False
    execute_code: Annotated[
        bool,
        typer.Option(
            "--execute-code",
            help="Score HumanEval by running what the model wrote, in a subprocess with limits of "
            "time and memory. That is no safe place for a stranger's code.",
            rich_help_panel="How much",
        ),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where results go, and where an earlier run with the same arguments goes on; "
            "named after model and arguments unless given.",
            rich_help_panel="Output",
        ),
    ] = None

    def __post_init__(self) -> None:
        for name in ("tasks", "methods"):
            parts = [part for text in getattr(self, name) for part in text.split(",") if part]
            require(bool(parts), f"{name} is empty: name at least one")
            require(len(set(parts)) == len(parts), f"{name} has {parts}: name each once")
            object.__setattr__(self, name, parts)
        RequestConfig(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        for name in ("limit", "max_prompt_tokens", "repeats"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} is {value}: give 1 or more")
        require(
            self.time_limit is None or self.time_limit > 0,
            f"time_limit is {self.time_limit}: give seconds above 0",
        )

    def arguments(self, model: str) -> dict[str, Any]:
        """What makes results comparable: everything but how long to run and where to write."""
        names = ("tasks", "methods", "assistant", "limit", "max_new_tokens", "max_prompt_tokens")
        chosen = {name: getattr(self, name) for name in (*names, "repeats", "temperature")}
        return {"model": model} | chosen

    def folder(self, model: str) -> Path:
        """Where results go."""
        if self.out is not None:
            return self.out
        text = json.dumps(self.arguments(model), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return Path("bench-results") / f"{Path(model).name}-{digest}"


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
    from selfdraft.bench.provenance import provenance
    from selfdraft.bench.result_folder import ResultFolder
    from selfdraft.bench.runner import measure
    from selfdraft.bench.summary import summarise
    from selfdraft.bench.tasks import TaskName

    tasks = [TaskName.parse(text) for text in options.tasks]
    if options.execute_code:
        say(_CODE_WARNING)
    with model.engine("off") as engine:
        source = _model_folder(model)
        target = engine.target
        origin = provenance(model.model, source, dtype=target.dtype, device=target.device)
        folder = ResultFolder(
            options.folder(model.model),
            {"arguments": options.arguments(model.model), "provenance": origin},
        )
        work = _work(tasks, options, engine)
        methods = _methods(model, options, engine, source)
        names = [method.name for method in methods]
        with bench_progress(names, len(work) * len(methods)) as progress:
            for measurement in folder.measurements:
                progress.measured(measurement)
            ending = measure(
                work,
                methods,
                folder,
                progress,
                device=target.device,
                time_limit=options.time_limit,
            )
        with spinner("comparing outputs"):
            summary = summarise(
                folder, work, methods, engine, ending=ending, may_run_code=options.execute_code
            )
        if options.costs and ending == "complete":
            summary["pass_costs"] = _pass_costs(methods, engine)
        folder.write_summary(summary)
    print_summary(summary)
    say(f"results are in {folder.path}")
    if ending != "complete":
        say(f"not complete ({ending}): the same command goes on")
    write_json({"folder": str(folder.path)} | summary)
    if ending == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(_is_wrong(method) for method in summary["methods"].values()):
        raise typer.Exit(EXIT_NOT_LOSSLESS)


def _is_wrong(method: dict[str, Any]) -> bool:
    """Ours alone: what other people's speculation does to the text is shown, not judged."""
    return method["family"] == "selfdraft" and method["is_lossless"] is False


def _model_folder(model: ModelOptions) -> Path:
    from selfdraft.model.loading import pull

    return pull(model.model, dtype=model.dtype, device=model.device)


def _work(tasks: list[Any], options: RunOptions, engine: "Engine") -> "list[Work]":
    """The prompts that are sampled, as token ids, in the order of measuring."""
    from selfdraft.bench.requests import requests_of
    from selfdraft.bench.runner import interleave
    from selfdraft.bench.tasks import load_task

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


def _methods(
    model: ModelOptions, options: RunOptions, engine: "Engine", source: Path
) -> "list[Method]":
    """The methods in the order that they were named; ours first of all, since they load nothing."""
    from selfdraft.bench.methods import engine_method
    from selfdraft.bench.transformers_methods import NAMES, PlainModel, transformers_method

    ours: dict[str, Method] = {
        name: engine_method(name, engine)
        for name in options.methods
        if name.partition("=")[0] not in NAMES
    }
    if len(ours) == len(options.methods):
        return list(ours.values())
    assistant = None
    if options.assistant is not None:
        from selfdraft.model.loading import pull

        assistant = pull(options.assistant, dtype=model.dtype, device=model.device)
    with spinner("loading the model once more, for transformers"):
        plain = PlainModel.load(
            source,
            dtype=engine.target.dtype,
            device=engine.target.device,
            eos_token_ids=engine.eos_token_ids,
            assistant=assistant,
        )
    return [ours.get(name) or transformers_method(name, plain) for name in options.methods]


def _pass_costs(methods: "list[Method]", engine: "Engine") -> list[dict[str, Any]]:
    from dataclasses import asdict

    from selfdraft.bench.methods import EngineMethod, plan_of
    from selfdraft.pass_costs import measure_passes

    drafts = {
        method.name: engine.target.draft_view(plan)
        for method in methods
        if isinstance(method, EngineMethod) and (plan := plan_of(engine, method.draft)) is not None
    }
    with spinner("timing single passes"):
        return [asdict(cost) for cost in measure_passes(engine, drafts)]
