"""`python -m research stream`: drafts on a text whose kind changes."""

from typing import TYPE_CHECKING, Any

import typer

from research.commands.stream_options import StreamOptions
from research.commands.stream_table import print_stream
from selfdraft.cli.command import EXIT_INTERRUPTED, EXIT_NOT_LOSSLESS
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import progress_bar, say, spinner, write_json
from selfdraft.config import require
from selfdraft.search.search_config import SearchConfig

if TYPE_CHECKING:
    from research.stream_drafts import StreamDrafts
    from research.stream_record import StreamRecord
    from research.stream_runner import Segment
    from selfdraft.bench.run.runner import Ending
    from selfdraft.engine import Engine
    from selfdraft.model.skip_set import SkipSet

# Of the search ahead of time: a minute or two on a small model.
_STORED_WINDOWS = 3
_STORED_PROPOSALS = 200


def stream(model: ModelOptions, options: StreamOptions) -> None:
    """Decode a stream of texts whose kind changes, with drafts that search while they write.

    The categories come one after the other, and every prompt is decoded by each draft and by plain
    decoding in turn. A row shows one draft in one segment: the acceptance of the tokens that the
    model's own draft named, the speed over plain decoding, what the search took, and after how many
    rounds acceptance was back within 0.05 of the segment's second half. Every output must be that
    of plain decoding: exit code 1 if one is not. "never": acceptance was still changing when the
    second half began; "lower": it stays below what it was before. The rows
    of "all" are ratios of totals. What was measured is in the file of --out after every prompt, and
    Ctrl-C and --time-limit keep it; the drafts' memory ends with the run, so that another call
    begins anew. The machine should be doing nothing else.

    For example:

      python -m research stream smollm2-135m --planted --stored --drafts auto,swift

      python -m research stream smollm2-135m --drafts frozen,swift,auto-skip --skip-ratio 0.2
    """
    from research.stream_drafts import STORED, VANILLA
    from research.stream_record import StreamRecord, require_new
    from research.stream_runner import run_stream
    from selfdraft.bench.run.provenance import provenance

    if options.out is not None:
        require_new(options.out)
    with model.engine("off") as loaded:
        segments = _segments(loaded, options)
        origin = provenance(model.model, loaded.target)
        engine = _doubled(loaded, options.noise) if options.planted else loaded
        makers, stored = _makers(engine, loaded, options)
        names = [VANILLA, *options.drafts, *(STORED if options.stored else ())]
        drafts = [makers.make(name) for name in names]
        record = StreamRecord(
            options.out,
            {"provenance": origin, "arguments": options.arguments(), "stored": stored},
            segments,
        )
        num_steps = len(drafts) * sum(len(segment.requests) for segment in segments)
        with progress_bar("streaming", num_steps) as advance:
            ending = run_stream(
                engine, segments, drafts, record.add, advance, time_limit=options.time_limit
            )
        record.finish(ending)
    _report(record, ending, options)


def _report(record: "StreamRecord", ending: "Ending", options: StreamOptions) -> None:
    """Print what was measured, and leave with the exit code that it asks for."""
    if options.as_json:
        write_json(record.document())
    else:
        print_stream(record.rows)
    if options.out is not None and record.rows:
        say(f"results are in {options.out}")
    if ending != "complete":
        say(f"not complete ({ending}): what is shown is of the prompts that every draft has done")
    if ending == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    num_different = sum(row.num_different for row in record.rows if row.segment is None)
    if num_different:
        say(f"NOT LOSSLESS: {num_different} outputs are not those of plain decoding")
        raise typer.Exit(EXIT_NOT_LOSSLESS)


def _doubled(loaded: "Engine", noise: float) -> "Engine":
    """An engine of the model with redundant layers."""
    from research.planted import plant
    from selfdraft.engine import Engine

    return Engine(plant(loaded.target.model, noise=noise).model, draft="off", remember=False)


def _segments(engine: "Engine", options: StreamOptions) -> "list[Segment]":
    """The stream: for each category the prompts that are sampled, always the same ones."""
    from research.stream_runner import Segment
    from selfdraft.bench.run.requests import requests_of
    from selfdraft.bench.tasks.task import BUILT_IN, TaskName, load_task

    task = TaskName(BUILT_IN) if options.prompts is None else TaskName("file", file=options.prompts)
    prompts = load_task(task)
    known = list(dict.fromkeys(prompt.category for prompt in prompts))
    segments = []
    for name in options.categories or known:
        members = set(name.split("+"))
        unknown = sorted(members - set(known))
        require(not unknown, f"there is no category {unknown}: give some of {', '.join(known)}")
        chosen = requests_of(
            [prompt for prompt in prompts if prompt.category in members],
            engine,
            limit=options.per_category,
            max_prompt_tokens=options.max_prompt_tokens,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
        )
        segments.append(Segment(name, [request for _, request in chosen]))
    return segments


def _makers(
    engine: "Engine", loaded: "Engine", options: StreamOptions
) -> "tuple[StreamDrafts, dict[str, Any] | None]":
    """What makes the drafts, and what was found ahead of time if that is asked for."""
    from research.stream_drafts import StreamDrafts
    from selfdraft.bench.tasks.prompts import encode_all, load_prompts
    from selfdraft.search.ahead_of_time import Tuning, measure_costs, record_windows

    config = SearchConfig(
        skip_ratio=options.skip_ratio, max_proposals=_STORED_PROPOSALS, time_share=None
    )
    num_prompts = _STORED_WINDOWS if options.stored else 1
    prompts = encode_all(load_prompts(None, num_prompts), loaded.tokenizer)
    with spinner("writing text, and measuring what passes cost"):
        windows = record_windows(
            engine.target, prompts, config.context_window, engine.eos_token_ids
        )
        costs = measure_costs(engine.target, windows[0])
    skip_set: SkipSet | None = None
    stored: dict[str, Any] | None = None
    if options.stored:
        tuning = Tuning(engine.target, windows, costs, config)
        with spinner("searching ahead of time"):
            for _ in tuning.run():
                pass
        skip_set = tuning.best
        stored = {
            "attention": skip_set.attention,
            "mlp": skip_set.mlp,
            "matchness": tuning.agreement.matchness,
            "num_proposals": tuning.num_proposals,
            "predicted_speedup": tuning.predicted_speedup,
        }
    makers = StreamDrafts(engine, costs, skip_ratio=options.skip_ratio, stored=skip_set)
    return makers, stored
