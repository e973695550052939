"""`selfdraft bench stream`: drafts on a text whose kind changes."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfdraft.cli.bench_stream_table import print_stream
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import progress_bar, say, spinner, write_json
from selfdraft.config import RequestConfig, require
from selfdraft.search.search_config import SearchConfig

if TYPE_CHECKING:
    from selfdraft.bench.stream_drafts import StreamDrafts
    from selfdraft.bench.stream_runner import Segment
    from selfdraft.engine import Engine
    from selfdraft.model.skip_set import SkipSet

EXIT_NOT_LOSSLESS = 1

# Of the search ahead of time: a minute or two on a small model.
_STORED_WINDOWS = 3
_STORED_PROPOSALS = 200

_DRAFTS = ("frozen", "swift", "auto", "auto-skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """The text, the drafts, and how much of it."""

    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines, each with a "category" beside its prompt; our own unless given.',
            rich_help_panel="What",
        ),
    ] = None
    categories: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Segments of the stream, in this order; A+B is one segment of two categories. All "
            "categories unless given. Several: with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=list)
    drafts: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(_DRAFTS)}. frozen keeps what the search found in the first segment; "
            "auto-skip is the search of auto with nothing but skipping, and frozen drafts as it "
            "does. Several: with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: ["frozen", "swift", "auto"])
    skip_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Fix the share of the sublayers that frozen, swift and auto-skip leave out, where "
            "skipping does not pay and acceptance is the question.",
            rich_help_panel="What",
        ),
    ] = None
    stored: Annotated[
        bool,
        typer.Option(
            "--stored",
            help="Search ahead of time on prompts of our own, and add the drafts auto-stored and "
            "swift-stored, which have the set that was found from the first token.",
            rich_help_panel="What",
        ),
    ] = False
    planted: Annotated[
        bool,
        typer.Option(
            "--planted",
            help="Double the model with redundant layers at random places.",
            rich_help_panel="What",
        ),
    ] = False
    noise: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="With --planted: every second redundant layer adds this share of what the layer "
            "that it copies adds.",
            rich_help_panel="What",
        ),
    ] = 0.0
    per_category: Annotated[
        int, typer.Option(metavar="N", help="Prompts of each segment.", rich_help_panel="How much")
    ] = 16
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
    temperature: Annotated[
        float,
        typer.Option(metavar="T", help="0 is greedy; else sample.", rich_help_panel="How much"),
    ] = 0.0
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the JSON document here, too.", rich_help_panel="Output"
        ),
    ] = None
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Write one JSON document to stdout.", rich_help_panel="Output"),
    ] = False

    def __post_init__(self) -> None:
        for name in ("categories", "drafts"):
            parts = [part for text in getattr(self, name) for part in text.split(",") if part]
            require(len(set(parts)) == len(parts), f"{name} has {parts}: name each once")
            object.__setattr__(self, name, parts)
        unknown = sorted(set(self.drafts) - set(_DRAFTS))
        require(
            bool(self.drafts) and not unknown,
            f"drafts has {unknown}: give some of {', '.join(_DRAFTS)}",
        )
        SearchConfig(skip_ratio=self.skip_ratio)
        RequestConfig(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        require(
            self.planted or self.noise == 0, "--noise is for what is planted: add --planted, too"
        )
        require(0 <= self.noise <= 1, f"noise is {self.noise}: give 0 to 1")
        for name in ("per_category", "max_prompt_tokens"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} is {value}: give 1 or more")


def stream(model: ModelOptions, options: StreamOptions) -> None:
    """Decode a stream of texts whose kind changes, with drafts that search while they write.

    The categories come one after the other, and every prompt is decoded by each draft and by plain
    decoding in turn. A row shows one draft in one segment: the acceptance of the tokens that the
    model's own draft named, the speed over plain decoding, what the search took, and after how many
    rounds acceptance was back within 0.05 of the segment's second half. Every output must be that
    of plain decoding: exit code 1 if one is not. The machine should be doing nothing else.

    For example:

      selfdraft bench stream smollm2-135m --planted --stored --drafts auto,swift
      selfdraft bench stream smollm2-135m --drafts frozen,swift,auto-skip --skip-ratio 0.2
    """
    from selfdraft.bench.planted import plant
    from selfdraft.bench.provenance import provenance
    from selfdraft.bench.stream_drafts import STORED, VANILLA
    from selfdraft.bench.stream_runner import run_stream
    from selfdraft.bench.stream_summary import summarise_stream
    from selfdraft.engine import Engine
    from selfdraft.model.loading import pull

    with model.engine("off") as loaded:
        segments = _segments(loaded, options)
        target = loaded.target
        source = pull(model.model, dtype=model.dtype, device=model.device)
        origin = provenance(model.model, source, dtype=target.dtype, device=target.device)
        engine = loaded
        if options.planted:
            planted = plant(loaded.target.model, noise=options.noise)
            engine = Engine(planted.model, draft="off", remember=False)
        makers, stored = _makers(engine, loaded, options)
        names = [VANILLA, *options.drafts, *(STORED if options.stored else ())]
        drafts = [makers.make(name) for name in names]
        num_steps = len(drafts) * sum(len(segment.requests) for segment in segments)
        with progress_bar("streaming", num_steps) as advance:
            passages = run_stream(engine, segments, drafts, advance)
    rows = summarise_stream(segments, passages)
    document: dict[str, Any] = {
        "provenance": origin,
        "arguments": asdict(options)
        | {"prompts": None if options.prompts is None else options.prompts.name, "out": None},
        "stored": stored,
        "rows": [asdict(row) for row in rows],
    }
    if options.out is not None:
        passed = [asdict(passage) for passage in passages]
        text = json.dumps(document | {"passages": passed})
        options.out.write_text(text, encoding="utf-8")
    if options.as_json:
        write_json(document)
    else:
        print_stream(document["rows"])
    num_different = sum(row.num_different for row in rows if row.segment is None)
    if num_different:
        say(f"NOT LOSSLESS: {num_different} outputs are not those of plain decoding")
        raise typer.Exit(EXIT_NOT_LOSSLESS)


def _segments(engine: "Engine", options: StreamOptions) -> "list[Segment]":
    """The stream: for each category the prompts that are sampled, always the same ones."""
    from selfdraft.bench.requests import requests_of
    from selfdraft.bench.stream_runner import Segment
    from selfdraft.bench.tasks import BUILT_IN, TaskName, load_task

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
    from selfdraft.bench.prompts import encode_all, load_prompts
    from selfdraft.bench.stream_drafts import StreamDrafts
    from selfdraft.tuning import Tuning, measure_costs, record_windows

    config = SearchConfig(
        skip_ratio=options.skip_ratio, max_proposals=_STORED_PROPOSALS, time_share=None
    )
    num_prompts = _STORED_WINDOWS if options.stored else 1
    prompts = encode_all(load_prompts(None, num_prompts), loaded.tokenizer)
    with spinner("writing text, and measuring what passes cost"):
        windows = record_windows(engine, prompts, config.context_window)
        costs = measure_costs(engine, windows[0])
    skip_set: SkipSet | None = None
    stored: dict[str, Any] | None = None
    if options.stored:
        tuning = Tuning(engine, windows, costs, config)
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
