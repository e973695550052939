"""`python -m research search`: search strategies on the same text, and on a known answer."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research.commands.search_table import print_planted, print_strategies
from selfdraft.cli.bench.text_options import Noise
from selfdraft.cli.command import AsJson
from selfdraft.cli.option_checks import listed, require_noise, require_positive
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import progress_bar, write_json
from selfdraft.config import require

if TYPE_CHECKING:
    from research.strategy_runs import RecordedText
    from selfdraft.engine import Engine

_STRATEGIES = ("random", "paper", "swaps", "hidden-states", "default")
_NUM_PROPOSALS = {False: 100, True: 200}  # by `planted`
_NUM_SEEDS = {False: 1, True: 5}
_NUM_WINDOWS = {False: 2, True: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBenchOptions:
    """What to search on, with which strategies, and how long."""

    strategies: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(_STRATEGIES)}; paper is random with Bayesian optimisation. Several: "
            "with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: list(_STRATEGIES))
    skip_ratio: Annotated[
        list[float],
        typer.Option(
            metavar="R",
            help="Share of the sublayers that every set skips; may be given several times.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5])
    planted: Annotated[
        bool,
        typer.Option(
            "--planted",
            help="Double the model with redundant layers at random places, and let the default "
            "strategy find them without being told how many; a row for each seed.",
            rich_help_panel="What",
        ),
    ] = False
    noise: Noise = 0.0
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Searches of each kind, from seeds 0, 1, ...; 1, and 5 with --planted.",
            rich_help_panel="How much",
            show_default=False,
        ),
    ] = None
    proposals: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Most proposals of a search; 100, and 200 with --planted.",
            rich_help_panel="How much",
            show_default=False,
        ),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines with prompts; our own unless given.",
            rich_help_panel="How much",
        ),
    ] = None
    windows: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Prompts whose outputs are searched on, from the first one; 2, and 4 with "
            "--planted.",
            rich_help_panel="How much",
            show_default=False,
        ),
    ] = None
    window: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Tokens to score on at once; each output has twice as many.",
            rich_help_panel="How much",
        ),
    ] = 32
    held_out: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Further prompts, on whose outputs what was found is scored at the end.",
            rich_help_panel="How much",
        ),
    ] = 6
    held_out_window: Annotated[
        int,
        typer.Option(metavar="N", help="The same for these outputs.", rich_help_panel="How much"),
    ] = 64
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the JSON document here, too, anew after every search.",
            rich_help_panel="Output",
        ),
    ] = None
    as_json: AsJson = False

    def __post_init__(self) -> None:
        names = listed("strategies", self.strategies)
        unknown = sorted(set(names) - set(_STRATEGIES))
        require(
            bool(names) and not unknown,
            f"strategies has {unknown}: give some of {', '.join(_STRATEGIES)}",
        )
        object.__setattr__(self, "strategies", names)
        require(
            all(0 < ratio <= 1 for ratio in self.skip_ratio),
            f"skip_ratio is {self.skip_ratio}: give shares above 0, at most 1",
        )
        require_noise(self.noise, is_planted=self.planted)
        counts = ("windows", "window", "held_out", "held_out_window", "seeds", "proposals")
        require_positive(self, *counts)

    @property
    def num_windows(self) -> int:
        """Prompts whose outputs are searched on."""
        return _NUM_WINDOWS[self.planted] if self.windows is None else self.windows

    @property
    def num_seeds(self) -> int:
        """Searches of each kind."""
        return _NUM_SEEDS[self.planted] if self.seeds is None else self.seeds

    @property
    def num_proposals(self) -> int:
        """Most proposals of a search."""
        return _NUM_PROPOSALS[self.planted] if self.proposals is None else self.proposals


def search(model: ModelOptions, options: SearchBenchOptions) -> None:
    """Compare search strategies on the same text of a model, or check a known answer.

    The model writes an output for each prompt; every strategy then looks for the best set of each
    skip ratio on the first of them, from the same start, and what it found is scored on the
    others. With --planted the answer is known: how many of the redundant sublayers were found, and
    after how many proposals. Seconds count everything that a proposal needs; for them the machine
    should be doing nothing else.

    For example:

      python -m research search smollm2-135m --skip-ratio 0.2 --skip-ratio 0.4 --proposals 50

      python -m research search smollm2-135m --planted --noise 0.03
    """
    from selfdraft.bench.run.provenance import provenance
    from selfdraft.bench.tasks.prompts import encode_all, load_prompts

    texts = load_prompts(options.prompts, options.num_windows + options.held_out)
    require(
        len(texts) > options.num_windows,
        f"{len(texts)} prompts leave none to hold out: give more prompts, or fewer --windows",
    )
    with model.engine("off") as engine:
        prompts = encode_all(texts, engine.tokenizer)
        document: dict[str, Any] = {
            "provenance": provenance(model.model, engine.target),
            "arguments": asdict(options)
            | {"prompts": None if options.prompts is None else options.prompts.name, "out": None},
            "rows": [],
        }
        rows = _planted_rows if options.planted else _strategy_rows
        for row in rows(engine, prompts, options):
            document["rows"].append(row)
            if options.out is not None:
                options.out.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if options.as_json:
        write_json(document)
    elif options.planted:
        print_planted(document["rows"])
    else:
        print_strategies(document["rows"])


def _strategy_rows(
    engine: "Engine", prompts: list[list[int]], options: SearchBenchOptions
) -> Iterator[dict[str, Any]]:
    from research.strategy_runs import run_strategy

    text = _record(engine, prompts, options)
    num_runs = len(options.strategies) * len(options.skip_ratio) * options.num_seeds
    with progress_bar("searching", num_runs) as advance:
        for skip_ratio in options.skip_ratio:
            for name in options.strategies:
                for seed in range(options.num_seeds):
                    found = run_strategy(
                        engine,
                        text,
                        name,  # type: ignore[arg-type]  # checked in `__post_init__`
                        skip_ratio,
                        num_proposals=options.num_proposals,
                        seed=seed,
                    )
                    advance()
                    yield asdict(found)


def _planted_rows(
    loaded: "Engine", prompts: list[list[int]], options: SearchBenchOptions
) -> Iterator[dict[str, Any]]:
    from research.planted import plant
    from research.planted_search import search_planted
    from selfdraft.engine import Engine

    for seed in range(options.num_seeds):
        planted = plant(loaded.target.model, seed, options.noise)
        engine = Engine(planted.model, draft="off", remember=False)
        text = _record(engine, prompts, options)
        found = search_planted(
            engine, planted, text, num_proposals=options.num_proposals, seed=seed
        )
        yield asdict(found) | {"found_ratio": found.found_ratio}


def _record(
    engine: "Engine", prompts: list[list[int]], options: SearchBenchOptions
) -> "RecordedText":
    from research.strategy_runs import RecordedText
    from selfdraft.search.ahead_of_time import measure_costs, record_windows

    searched, others = prompts[: options.num_windows], prompts[options.num_windows :]
    with progress_bar("writing text to search on", len(prompts)) as advance:
        windows = record_windows(
            engine.target, searched, options.window, engine.eos_token_ids, advance
        )
        held_out = record_windows(
            engine.target, others, options.held_out_window, engine.eos_token_ids, advance
        )
    return RecordedText(windows, held_out, measure_costs(engine.target, windows[0]))
