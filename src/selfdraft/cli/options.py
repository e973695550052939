"""The options that commands share. Each default is read from the library, where it exists once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfdraft.cli.command import Verbose
from selfdraft.cli.quiet import quiet_libraries
from selfdraft.cli.terminal import spinner
from selfdraft.config import RequestConfig, RequestOptions, require
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.model.skip_set import SkipSet

if TYPE_CHECKING:  # torch takes seconds to import, and help needs none of it
    from selfdraft.drafts import Draft
    from selfdraft.engine import Engine

_REQUEST = RequestConfig()
_DRAFT = DraftConfig()

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An alias (smollm2-135m), a Hugging Face hub id, a local folder or a .gguf file.",
    ),
]

DtypeName = Annotated[
    str,
    typer.Option(
        metavar="DTYPE",
        help="Precision of the weights: bfloat16, float16 or float32; auto is bfloat16 where the "
        "hardware computes it, else float32.",
        rich_help_panel="Model",
    ),
]
DeviceName = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, mps, ...; auto is the accelerator if there is one.",
        rich_help_panel="Model",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model, in which precision, on which device."""

    model: ModelName
    dtype: DtypeName = "auto"
    device: DeviceName = "auto"
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="CPU threads to compute with; torch decides unless given.",
            rich_help_panel="Model",
        ),
    ] = None
    verbose: Verbose = False

    def __post_init__(self) -> None:
        require(
            self.threads is None or self.threads >= 1,
            f"threads is {self.threads}: give 1 or more, or leave it out",
        )

    @contextmanager
    def engine(
        self, draft: "Draft" = "auto", *, quiet: bool = False, copy_earlier_texts: bool = False
    ) -> Iterator["Engine"]:
        """The loaded model, for the length of the block; fetched and converted if it must be.

        Torch's threads and the chatter of the libraries are put back afterwards. `quiet` hides
        the spinners.
        """
        hidden = quiet or self.verbose  # a spinner and a log spoil each other
        with ExitStack() as stack:
            with spinner("starting torch", hidden=hidden):
                from selfdraft.engine import Engine
                from selfdraft.model.loading.load import pull

                stack.enter_context(quiet_libraries(is_verbose=self.verbose, hides_own=quiet))
                stack.enter_context(_torch_threads(self.threads))
            # Shows by itself what takes long, so there is no spinner over it.
            folder = pull(self.model, dtype=self.dtype, device=self.device)
            with spinner(f"loading {self.model}", hidden=hidden):
                engine = Engine.load(
                    folder,
                    dtype=self.dtype,
                    device=self.device,
                    draft=draft,
                    copy_earlier_texts=copy_earlier_texts,
                )
            yield engine


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How the next token is chosen, and when the text ends."""

    max_new_tokens: Annotated[
        int, typer.Option(metavar="N", help="Most tokens to write.", rich_help_panel="Sampling")
    ] = _REQUEST.max_new_tokens
    temperature: Annotated[
        float,
        typer.Option(
            metavar="T",
            help="0 always takes the likeliest token; 1 samples as the model learned it; more is "
            "wilder.",
            rich_help_panel="Sampling",
        ),
    ] = _REQUEST.temperature
    top_p: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Sample from the likeliest tokens that together have probability P; 1 is off.",
            rich_help_panel="Sampling",
        ),
    ] = _REQUEST.top_p
    top_k: Annotated[
        int,
        typer.Option(
            metavar="K",
            help="Sample from the K likeliest tokens; 0 is off.",
            rich_help_panel="Sampling",
        ),
    ] = _REQUEST.top_k
    min_p: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Leave out tokens with less than P times the probability of the likeliest; 0 is "
            "off.",
            rich_help_panel="Sampling",
        ),
    ] = _REQUEST.min_p
    repetition_penalty: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Above 1, tokens that occurred already become less likely; 1 is off.",
            rich_help_panel="Sampling",
        ),
    ] = _REQUEST.repetition_penalty
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="The same seed gives the same text, with any draft.",
            rich_help_panel="Sampling",
        ),
    ] = _REQUEST.seed
    stop: Annotated[
        list[str],
        typer.Option(
            metavar="TEXT",
            help="End before TEXT; may be given several times.",
            rich_help_panel="Sampling",
        ),
    ] = field(default_factory=lambda: list(_REQUEST.stop_strings))

    def request(self, *, logprobs: int = _REQUEST.logprobs) -> RequestOptions:
        """The keyword arguments of `Engine.generate`, checked before a model is loaded."""
        options = RequestOptions(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=self.stop,
            logprobs=logprobs,
        )
        RequestConfig(**options)
        return options


DraftMode = Literal["auto", "swift", "suffix", "recycling", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOptions:
    """What drafts. It changes the speed and never the text."""

    draft: Annotated[
        DraftMode,
        typer.Option(
            help="auto is the best that there is, swift the published preset, suffix and "
            "recycling one free draft alone, off plain decoding; the text is the same with each.",
            rich_help_panel="Draft",
        ),
    ] = "auto"
    skip_set: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Draft without these sublayers: JSON {"attention": [layer, ...], "mlp": '
            "[layer, ...]}, or FILE#NAME for one of a collection {name: set}.",
            rich_help_panel="Draft",
        ),
    ] = None
    skip_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Draft without this share of the sublayers that may be skipped, spread evenly "
            f"(0 to 1; {_DRAFT.skip_ratio} unless given).",
            rich_help_panel="Draft",
        ),
    ] = None

    def resolve(self) -> "Draft":
        """The draft to give to the engine; a skip set file is read here.

        Raises:
            ConfigError: two options contradict each other, or the skip set cannot be used.
        """
        if self.skip_set is None and self.skip_ratio is None:
            return self.draft
        require(self.draft != "off", "--draft off has no draft to skip sublayers in: leave it out")
        require(
            self.skip_set is None or self.skip_ratio is None,
            "--skip-set and --skip-ratio exclude each other: give one of them",
        )
        if self.skip_ratio is not None:
            return DraftConfig(skip_ratio=self.skip_ratio)
        return DraftConfig(skip_set=SkipSet.load(self.skip_set or ""))


@contextmanager
def _torch_threads(num_threads: int | None) -> Iterator[None]:
    if num_threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
