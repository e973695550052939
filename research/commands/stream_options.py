"""The options of `python -m research stream`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from selfdraft.cli.bench.text_options import MaxNewTokens, MaxPromptTokens, Noise, Temperature
from selfdraft.cli.command import AsJson
from selfdraft.cli.option_checks import listed, require_noise, require_positive
from selfdraft.config import RequestConfig, require
from selfdraft.search.search_config import SearchConfig

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
    noise: Noise = 0.0
    per_category: Annotated[
        int, typer.Option(metavar="N", help="Prompts of each segment.", rich_help_panel="How much")
    ] = 16
    max_new_tokens: MaxNewTokens = 128
    max_prompt_tokens: MaxPromptTokens = None
    temperature: Temperature = 0.0
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop after the prompt during which it runs out.",
            rich_help_panel="How much",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the JSON document here, too, anew after every prompt. There must be no "
            "such file: a stream that was stopped cannot go on, because what its drafts had "
            "learned is gone.",
            rich_help_panel="Output",
        ),
    ] = None
    as_json: AsJson = False

    def __post_init__(self) -> None:
        for name in ("categories", "drafts"):
            object.__setattr__(self, name, listed(name, getattr(self, name)))
        unknown = sorted(set(self.drafts) - set(_DRAFTS))
        require(
            bool(self.drafts) and not unknown,
            f"drafts has {unknown}: give some of {', '.join(_DRAFTS)}",
        )
        SearchConfig(skip_ratio=self.skip_ratio)
        RequestConfig(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        require_noise(self.noise, is_planted=self.planted)
        require_positive(self, "per_category", "max_prompt_tokens")
        require_positive(self, "time_limit", remedy="seconds above 0")

    def arguments(self) -> dict[str, Any]:
        """What was asked for: everything but how long to run and where to write."""
        how = ("time_limit", "out", "as_json")
        asked = {name: value for name, value in asdict(self).items() if name not in how}
        return asked | {"prompts": None if self.prompts is None else self.prompts.name}
