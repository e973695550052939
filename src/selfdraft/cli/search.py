"""`selfdraft search`: find a draft ahead of time and remember it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.command import EXIT_INTERRUPTED, AsJson
from selfdraft.cli.inspect.layer_map import layer_map
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import progress_bar, say, stderr_console, write_json
from selfdraft.config import require
from selfdraft.search.search_config import SearchConfig

if TYPE_CHECKING:
    from rich.console import RenderableType

    from selfdraft.engine import Engine
    from selfdraft.search.ahead_of_time import Tuning
    from selfdraft.search.store import StoredDraft

_SEARCH = SearchConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """On which text to search, how long, and for what."""

    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines, each with a "prompt", a "question" or "turns": text of the kind that '
            "the model will write. Eight prompts of our own unless given.",
            rich_help_panel="Search",
        ),
    ] = None
    limit: Annotated[
        int,
        typer.Option(metavar="N", help="Use the first N prompts.", rich_help_panel="Search"),
    ] = 8
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Stop after so many minutes of search.", rich_help_panel="Search"
        ),
    ] = None
    max_proposals: Annotated[
        int,
        typer.Option(metavar="N", help="Stop after so many proposals.", rich_help_panel="Search"),
    ] = _SEARCH.max_proposals
    skip_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Skip this share of the sublayers (0 to 1) and find which; unless given, the "
            "share is found too, for the highest predicted speed.",
            rich_help_panel="Search",
        ),
    ] = None
    window: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Tokens to score on at once; each output has twice as many, if it is that long.",
            rich_help_panel="Search",
        ),
    ] = _SEARCH.context_window
    anew: Annotated[
        bool,
        typer.Option(
            "--anew",
            help="Do not start from what was found before.",
            rich_help_panel="Search",
        ),
    ] = False
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write every proposal and score to FILE, as JSON lines.",
            rich_help_panel="Output",
        ),
    ] = None
    as_json: AsJson = False

    def __post_init__(self) -> None:
        require(self.limit > 0, f"limit is {self.limit}: give 1 or more")
        require(
            self.minutes is None or self.minutes > 0, f"minutes is {self.minutes}: give more than 0"
        )
        self.config()

    def config(self) -> SearchConfig:
        """The search that they describe."""
        return SearchConfig(
            skip_ratio=self.skip_ratio,
            context_window=self.window,
            max_proposals=self.max_proposals,
            patience=max(1, min(200, self.max_proposals)),
            time_share=None,
        )


def search(model: ModelOptions, options: SearchOptions) -> None:
    """Find which sublayers a draft can leave out, ahead of time, and remember them.

    The model writes a little text, on which drafts are compared; nothing is trained. What is found
    is used from the first token by every later run that drafts with auto. Ctrl-C stops it at any
    time and keeps the best; the next call goes on from there.

    For example:

      selfdraft search smollm2-135m --minutes 2
    """
    from selfdraft.bench.tasks.prompts import encode_all, load_prompts
    from selfdraft.search.ahead_of_time import Tuning, measure_costs, record_windows
    from selfdraft.search.store import DraftStore
    from selfdraft.search.trace import TraceFile

    texts = load_prompts(options.prompts, options.limit)
    with (
        model.engine("off") as engine,
        TraceFile(options.trace) if options.trace is not None else nullcontext() as trace,
    ):
        store = DraftStore(engine.target.fingerprint.weights)
        known = () if options.anew else store.fitting(engine.target.layers)[0]
        if known and not options.as_json:
            say(f"going on from the best of {len(known)} remembered drafts (--anew starts afresh)")
        prompts = encode_all(texts, engine.tokenizer)
        with progress_bar("writing text to search on", len(prompts)) as advance:
            windows = record_windows(
                engine.target, prompts, options.window, engine.eos_token_ids, advance
            )
        tuning = Tuning(
            engine.target,
            windows,
            measure_costs(engine.target, windows[0]),
            options.config(),
            start=known[0].skip_set if known else None,
            trace=trace,
        )
        is_complete = _run(tuning, engine, options)
        if tuning.agreement.num_tokens:
            store.remember(_stored(tuning))
    if options.as_json:
        write_json(_document(tuning, is_complete=is_complete))
    elif tuning.agreement.num_tokens:
        stderr_console().print(_report(tuning, engine))
        say(_verdict(tuning))
    if not is_complete:
        raise typer.Exit(EXIT_INTERRUPTED)


def _run(tuning: "Tuning", engine: "Engine", options: SearchOptions) -> bool:
    """Search until it is over or the time is up. False if the user stopped it."""
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    try:
        with _display(tuning, engine) as refresh:
            for _ in tuning.run():
                refresh()
                if end is not None and time.monotonic() >= end:
                    break
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _display(tuning: "Tuning", engine: "Engine") -> Iterator[Callable[[], None]]:
    """A live report on stderr, if that is a terminal."""
    console = stderr_console()
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda: live.update(_report(tuning, engine), refresh=True)


def _report(tuning: "Tuning", engine: "Engine") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    best, agreement = tuning.best, tuning.agreement
    rows = {
        "proposals": f"{tuning.num_proposals}",
        "best matchness": f"{agreement.matchness:.3f} of {agreement.num_tokens} tokens"
        if agreement.num_tokens
        else "not scored yet",
        "skips": f"{len(best.attention)} attention + {len(best.mlp)} MLP sublayers",
        "speed": f"{tuning.predicted_speedup:.2f}x of plain decoding, predicted",
    }
    lines = [f"{name:<15} {value}" for name, value in rows.items()]
    return Group(*(Text(line) for line in [*lines, *layer_map(engine.target.layers, best)]))


def _verdict(tuning: "Tuning") -> str:
    if tuning.predicted_speedup <= 1:
        return (
            "No set of sublayers is known to pay on this model: --draft auto will not skip any, "
            "and drafts in other ways."
        )
    return "Remembered: --draft auto starts with this set."


def _stored(tuning: "Tuning") -> "StoredDraft":
    from selfdraft.search.store import StoredDraft

    return StoredDraft(
        skip_set=tuning.best,
        matchness=tuning.agreement.matchness,
        predicted_speedup=tuning.predicted_speedup,
        num_proposals=tuning.num_proposals,
    )


def _document(tuning: "Tuning", *, is_complete: bool) -> dict[str, object]:
    agreement = tuning.agreement
    return {
        "attention": list(tuning.best.attention),
        "mlp": list(tuning.best.mlp),
        "matchness": agreement.matchness if agreement.num_tokens else None,
        "num_tokens": agreement.num_tokens,
        "num_proposals": tuning.num_proposals,
        "predicted_speedup": tuning.predicted_speedup if agreement.num_tokens else None,
        "skip_ratio": tuning.best.num_skipped / max(1, tuning.space.num_sublayers),
        "is_complete": is_complete,
        "ended_by": tuning.reason,
    }
